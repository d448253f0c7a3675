"""Texts: logits in, texts with their probabilities out; texts against texts; what a model folder says of itself. No torch."""
