"""Channel graph, strategies, surgery and proof for pruning Darknet models."""
