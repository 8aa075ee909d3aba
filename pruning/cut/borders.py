"""Zero padding beside constants: at the borders of a map no shift stands for them exactly."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeGuard

import torch
from torch import Tensor

from yolo.layers import Layer
from yolo.layers.convolutional import Convolutional


def needs_channel(layer: Layer, weighers: Collection[int]) -> TypeGuard[Convolutional]:
    """True where no shift can stand for constants that enter: padding, or a constraint."""
    if not isinstance(layer, Convolutional):
        return False
    return layer.padding > 0 or layer.section.index in weighers


def _inside(layer: Convolutional, axis: int) -> Tensor:
    """The taps that lie inside the map, for every output along an axis: (out, k) of 0 and 1."""
    shape, out = layer.inputs[0], layer.out_shape
    length, count = ((shape.height, out.height), (shape.width, out.width))[axis]
    start = torch.arange(count) * layer.stride[axis] - layer.padding * layer.dilation
    position = start[:, None] + torch.arange(layer.size) * layer.dilation
    return ((position >= 0) & (position < length)).double()


def mean_shift(layer: Convolutional, added: Tensor) -> Tensor:
    """The mean over all outputs of what constants add through the taps (n, k, k): (n,)."""
    rows, columns = (_inside(layer, axis).mean(0) for axis in (0, 1))
    return (added * torch.outer(rows, columns).to(added.dtype)).sum((1, 2))


def border_energy(layer: Convolutional, added: Tensor) -> float:
    """Mean square over all positions of what mean_shift gets wrong, summed over the outputs."""
    inside = [_inside(layer, axis) for axis in (0, 1)]
    second = [m.T @ m / len(m) for m in inside]
    square = torch.einsum("oab,ac,bd,ocd->o", added.double(), second[0], second[1], added.double())
    return float((square - mean_shift(layer, added.double()).square()).clamp(min=0).sum())
