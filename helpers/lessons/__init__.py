"""Lessons: what the notebooks compute to explain themselves; nothing here takes part in a training."""
