"""Sections as text, for engines that don't know a section type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Written:
    """The text of a section in a cfg, with its tensors."""

    text: str
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outside:
    """The first part of a section, to be computed outside the engine.

    `compute` maps (N, C, H, W) to (N, C, H, W); `formula` describes it with x and the `numbers`.
    `sections` compute the other part.
    """

    compute: Callable[[Floats], Floats]
    formula: str
    numbers: Mapping[str, float]
    sections: tuple[Written, ...]


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
    """A [route] to the output of one section; a negative index counts back."""
    return f"[route]\nlayers={source}"
