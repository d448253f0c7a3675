"""Figures: images (H, W, C), strings and numbers in, matplotlib figures out; no pyplot."""
