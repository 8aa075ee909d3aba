"""Training: what is learned from, how fast, and what is kept of it."""
