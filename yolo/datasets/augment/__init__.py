"""Augmentation: random variation of training images."""
