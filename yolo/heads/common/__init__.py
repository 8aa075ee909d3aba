"""What several heads share: their base classes, targets and losses, assignment of truths."""
