"""Bayesian compression: thresholds, the bits that weights need, figures, and the cut."""
