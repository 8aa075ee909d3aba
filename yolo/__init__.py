"""Darknet models in torch: cfg documents, layers, networks and the .weights codec."""
