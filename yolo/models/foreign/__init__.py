"""Tensors trained in other frameworks, converted to our networks."""
