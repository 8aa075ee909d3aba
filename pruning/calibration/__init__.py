"""What unlabeled images tell: what a cut can do without, and how weights make up for it."""
