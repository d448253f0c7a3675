"""Captchas from nothing: a seed and a charset in, labelled pictures out, in memory or as files."""
