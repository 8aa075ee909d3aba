"""Heads with anchors on a grid: the common part of [yolo], [Gaussian_yolo] and [region]."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.base import BoxHead
from yolo.layers.base import Layer

# The convolution before a head starts with sizes near the anchors and hardly any object (Lin et
# al., Focal Loss for Dense Object Detection, ICCV 2017); Darknet's deltas grow with box sizes.
SPREAD, OBJECTS = 0.01, 0.01


class GridHead(BoxHead):
    """A head whose source gives all entries of all anchors: coordinates, objectness, classes."""

    coordinates: ClassVar[int] = 4
    anchors: list[tuple[float, float]]

    def start_source(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """Small weights, and biases for a prior objectness of OBJECTS."""
        if fresh.keys() != {"biases", "weights"}:
            return fresh
        weights, biases = fresh["weights"], fresh["biases"]
        biases.unflatten(0, (-1, self.entries))[:, self.coordinates] = -math.log(1 / OBJECTS - 1)
        return {"biases": biases, "weights": weights * (SPREAD / weights.std())}


def grid_heads(layers: Iterable[Layer]) -> list[GridHead]:
    """The heads with anchors on a grid."""
    return [layer for layer in layers if isinstance(layer, GridHead)]


def grid_traits(head: GridHead, **others: float) -> list[str]:
    """Traits that a teacher's head must share: classes, map, anchors and these numbers."""
    # in pixels of images of one size, or in cells of maps of one size
    anchors = ", ".join(f"{width:.5g}x{height:.5g}" for width, height in head.anchors)
    return [
        f"has {head.classes} classes",
        f"has a map of {head.out_shape.width}x{head.out_shape.height} cells",
        f"has the anchors {anchors}",
        *(f"has {key}={value:g}" for key, value in others.items()),
    ]


def read_anchors(section: Section, count: int) -> list[tuple[float, float]]:
    """`count` anchors (width, height); missing ones are 0.5, as in Darknet."""
    values = list(section.numbers("anchors", ()))[: 2 * count]
    values += [0.5] * (2 * count - len(values))
    return list(zip(values[::2], values[1::2], strict=True))


def grid(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row of every cell: (1, W) and (H, 1)."""
    columns = torch.arange(width, dtype=like.dtype, device=like.device)
    rows = torch.arange(height, dtype=like.dtype, device=like.device)
    return columns[None], rows[:, None]
