"""Sparse training: a penalty on the γ that a strategy can prune."""
