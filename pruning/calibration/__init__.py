"""Calibration with unlabeled images: channels that can go, and weights that compensate."""
