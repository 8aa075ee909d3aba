"""Base classes, targets and losses, and the assignment of truths, which several heads share."""
