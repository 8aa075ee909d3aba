"""One class for each section type; importing this package registers them all."""

from yolo.layers import (
    batchnorm,
    bayesian,
    combining,
    connected,
    convolutional,
    l2norm,
    local,
    pointwise,
    pooling,
    rearranging,
)
from yolo.layers.base import IMAGE, Layer, Shape, kind_of, registered

__all__ = [
    "IMAGE",
    "Layer",
    "Shape",
    "batchnorm",
    "bayesian",
    "combining",
    "connected",
    "convolutional",
    "kind_of",
    "l2norm",
    "local",
    "pointwise",
    "pooling",
    "rearranging",
    "registered",
]
