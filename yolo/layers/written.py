"""Sections as texts, for engines that don't know the type of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Written:
    """A section as a cfg has it, with its tensors."""

    text: str
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outside:
    """The first part of a section, where whoever runs the network is to compute it.

    `compute` takes and gives (N, C, H, W); `formula` says it in words, of x and these `numbers`.
    `rest` are the sections that follow.
    """

    compute: Callable[[Floats], Floats]
    formula: str
    numbers: Mapping[str, float]
    rest: tuple[Written, ...]


def affine(weights: Tensor, biases: Tensor) -> Written:
    """A factor and a shift (C,) for every channel of the section before."""
    channels = len(weights)
    tensors = {"biases": biases, "weights": weights.reshape(channels, 1, 1, 1)}
    return Written(depthwise(channels), tensors)


def depthwise(channels: int, activation: str = "linear") -> str:
    """A factor, a shift and an activation for every channel of the section before."""
    return (
        f"[convolutional]\nfilters={channels}\ngroups={channels}\nsize=1\nstride=1\npad=0\n"
        f"activation={activation}"
    )


def route(source: int) -> str:
    """The output of one section, counted as Darknet does: from the first, or, negative, back."""
    return f"[route]\nlayers={source}"
