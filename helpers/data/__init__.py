"""Data: captchas and their texts as people keep them in, audited and split, batches for a training out."""
