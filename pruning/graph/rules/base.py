"""What every rule answers: how channels are tied, what a constant becomes, how a section is cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.graph.coupling import Coupling, Ids
from yolo.layers import Layer

Tensors = Mapping[str, Tensor]
Edits = dict[str, object]


@dataclass(frozen=True)
class Kept:
    """What is left of a section: channels kept of each source and of its own output."""

    inputs: Sequence[Tensor]
    outputs: Tensor


class Rule:
    """A section that passes its channels through."""

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        """The ids of its output channels; ties and pins go into `coupling`."""
        return sources[0]

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        """What its outputs (C,) are where its inputs are constants `values` (C_i,)."""
        return values[0]

    def cut(self, layer: Layer, tensors: Tensors, kept: Kept) -> tuple[Edits, dict[str, Tensor]]:
        """New cfg values, and its tensors with the kept channels only."""
        return {}, {name: tensor[kept.outputs] for name, tensor in tensors.items()}


class Pinned(Rule):
    """A section whose outputs depend on the number or order of its input channels."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        for ids in sources:
            coupling.pin(ids, self.reason.format(layer.section.name))
        channels = layer.out_shape.channels
        if channels == len(sources[0]):
            return sources[0]
        made = coupling.fresh(channels)
        coupling.pin(made, f"comes from [{layer.section.name}]")
        return made

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return torch.zeros(layer.out_shape.channels, dtype=values[0].dtype)

    def cut(self, layer: Layer, tensors: Tensors, kept: Kept) -> tuple[Edits, dict[str, Tensor]]:
        return {}, dict(tensors)
