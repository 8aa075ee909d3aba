"""A cut: the plan as data, constants carried exactly, the surgery."""
