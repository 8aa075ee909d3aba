"""The base of all rules: how channels are tied, what a constant becomes, how a section is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from pruning.graph.rules.coupling import Coupling, Ids
from yolo.layers import Layer
from yolo.network import Network

L = TypeVar("L", bound=Layer)
Tensors = Mapping[str, Tensor]
Edits = dict[str, object]
Change = tuple[Edits, dict[str, Tensor]]  # new cfg values, and what is left of the tensors


@dataclass(frozen=True)
class Kept:
    """The channels that a section keeps of each source and of its own output."""

    inputs: Sequence[Tensor]
    outputs: Tensor


@dataclass(frozen=True)
class Demand:
    """A section's demand on a cut among the channels that enter it, those of groups `ids` (C,).

    `source` gives these channels. Where one of them that isn't 0 is cut, a constant channel must be
    kept: neither this section nor the `weighers` behind it can take up a constant in a shift.
    """

    source: int
    ids: Ids = field(repr=False)
    weighers: frozenset[int]

    def scale(self, cut: Tensor, emitted: Tensor) -> float:
        """The factor by which constant channels must be larger to stand for what is cut.

        `cut` (K,) are the constants of what is cut, `emitted` those of the constant channels.
        """
        raise NotImplementedError


class Rule(Generic[L]):
    """A section that passes its channels through."""

    # constants k times as large (k > 0) come out of it k times as large, but for its activation
    scales = False

    def couple(self, layer: L, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        """The ids of its output channels; ties and pins go into `coupling`."""
        return sources[0]

    def pin(self, network: Network, index: int, coupling: Coupling) -> None:
        """Pin what can't be cut for all else that its channels belong to, when all are tied."""

    def constraint(self, network: Network, index: int, inputs: Sequence[Ids]) -> Demand | None:
        """The demand of section `index` on a cut among its `inputs`, if a fold doesn't do."""
        return None

    def constant(self, layer: L, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        """Its outputs (C,) where its inputs are constants `values` (C_i,)."""
        return values[0]

    def cut(self, layer: L, tensors: Tensors, kept: Kept) -> Change:
        """New cfg values, and its tensors with the kept channels only."""
        return {}, {name: tensor[kept.outputs] for name, tensor in tensors.items()}


class Pinned(Rule[Layer]):
    """A section whose outputs depend on the number or order of its input channels."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        for ids in sources:
            coupling.pin(ids, self.reason.format(layer.section.name))
        channels = layer.out_shape.channels
        if channels == len(sources[0]):
            return sources[0]
        outputs = coupling.fresh(channels)
        coupling.pin(outputs, f"comes from [{layer.section.name}]")
        return outputs

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return torch.zeros(layer.out_shape.channels, dtype=values[0].dtype)

    def cut(self, layer: Layer, tensors: Tensors, kept: Kept) -> Change:
        return {}, dict(tensors)
