"""Data sets: lists, labels, images, augmentation, loaders."""
