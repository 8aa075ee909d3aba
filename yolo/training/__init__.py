"""Training: loaders, losses, optimiser, the loop, and its files."""
