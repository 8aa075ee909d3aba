"""Rules of the sections that pass channels on, each or several as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pruning.graph.coupling import Coupling, Ids
from pruning.graph.rules.base import Edits, Kept, Pinned, Rule, Tensors
from yolo.layers import Layer, combining, convolutional, pointwise, pooling, rearranging


class BatchNormRule(Rule):
    """Scales and shifts each channel."""

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        gain = tensors["scales"] / torch.sqrt(tensors["variance"] + convolutional.BN_EPSILON)
        return (values[0] - tensors["mean"]) * gain + tensors["biases"]


class ActivationRule(Rule):
    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        assert isinstance(layer, pointwise.Activate)
        return layer.activation(values[0])


class UpsampleRule(Rule):
    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        assert isinstance(layer, rearranging.Upsample)
        return values[0] * layer.scale


class L2NormRule(Rule):
    """A factor a channel; constants are meant as shares of a place's norm."""

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return values[0] * tensors["factors"]


class MaxPoolRule(Rule):
    """Channel by channel, unless it takes the maximum over channels."""

    over_channels = Pinned("feeds a [{}] over channels")

    def _rule(self, layer: Layer) -> Rule:
        assert isinstance(layer, pooling.MaxPool)
        return self.over_channels if layer.depth else Rule()

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        return self._rule(layer).couple(layer, sources, coupling)

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return self._rule(layer).constant(layer, tensors, values)


class RouteRule(Rule):
    """Concatenates; a slice of each source ties the counts of its slices."""

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        assert isinstance(layer, combining.Route)
        for ids in sources:
            coupling.keep_equal(ids, layer.groups)
        parts = [np.split(ids, layer.groups)[layer.group_id] for ids in sources]
        return np.concatenate(parts)

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        assert isinstance(layer, combining.Route)
        return torch.cat([v.chunk(layer.groups)[layer.group_id] for v in values])


class ShortcutRule(Rule):
    """Ties all its sources; the widths of an unequal one stay as they are.

    AlexeyAB's Darknet reads out of bounds where an unequal source's own input happens to be as
    wide as the shortcut, so that width mustn't change either.
    """

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        assert isinstance(layer, combining.Shortcut)
        for ids in sources[1:]:
            common = min(len(ids), len(sources[0]))
            coupling.unite(sources[0][:common], ids[:common])
        if layer.unequal:
            behind = (ids for source in layer.sources for ids in coupling.inputs.get(source, ()))
            for ids in (*sources, *behind):
                coupling.pin(ids, f"belongs to a [{layer.section.name}] of unequal widths")
        return sources[0]

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        assert isinstance(layer, combining.Shortcut)
        factors = combining.normalised(tensors.get("weights"), layer.normalization)
        total = torch.zeros_like(values[0])
        for n, value in enumerate(values):
            common = min(len(value), len(total))
            factor = 1 if factors is None else factors[n][:common]
            total[:common] += value[:common] * factor
        return layer.activation(total)

    def cut(self, layer: Layer, tensors: Tensors, kept: Kept) -> tuple[Edits, dict[str, Tensor]]:
        per_channel = {n: t if t.shape[1] == 1 else t[:, kept.outputs] for n, t in tensors.items()}
        return {}, per_channel


class ProductRule(Rule):
    """Ties the factor's channels to those that it scales, unless it is one factor a place."""

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        factor, scaled = sources
        if len(factor) == len(scaled):
            coupling.unite(factor, scaled)
        else:
            coupling.pin(factor, f"feeds a [{layer.section.name}] with one factor a place")
            coupling.pin(scaled, f"is scaled place by place by [{layer.section.name}]")
        return scaled

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        assert isinstance(layer, (combining.ScaleChannels, combining.Sam))
        return layer.activation(values[0] * values[1])


class Reorg3dRule(Rule):
    """Every input channel comes out stride² times, in the order (dy, dx, c)."""

    mixing = Pinned("feeds a [{}] that mixes channels and places")

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        assert isinstance(layer, rearranging.Reorg3d)
        if layer.reverse:
            return self.mixing.couple(layer, sources, coupling)
        return np.tile(sources[0], layer.stride**2)

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        assert isinstance(layer, rearranging.Reorg3d)
        if layer.reverse:
            return self.mixing.constant(layer, tensors, values)
        return values[0].repeat(layer.stride**2)


class ImplicitRule(Rule):
    """Constants by themselves, if there is one a channel."""

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        made = coupling.fresh(layer.out_shape.channels)
        if layer.out_shape.height > 1:
            coupling.pin(made, "has several atoms a channel")
        return made

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return tensors["weights"][:, 0]

    def cut(self, layer: Layer, tensors: Tensors, kept: Kept) -> tuple[Edits, dict[str, Tensor]]:
        edits: Edits = {}
        if len(kept.outputs) < layer.out_shape.channels:
            edits["filters"] = len(kept.outputs)
        return edits, {name: tensor[kept.outputs] for name, tensor in tensors.items()}
