"""Engines that we did not write, for the proof that a written model computes what ours does."""
