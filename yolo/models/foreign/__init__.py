"""Tensors that other frameworks trained, for networks of ours."""
