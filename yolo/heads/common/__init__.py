"""Code that several heads share: base classes, targets, losses, the assignment of truths."""
