"""Loading, saving and initialising models."""
