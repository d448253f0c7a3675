"""Evaluation: what models say of labelled captchas in, whether they can be believed out."""
