"""Rules of the sections that pass channels on, each or several as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruning.graph.rules.base import Change, Edits, Kept, Pinned, Rule, Tensors
from pruning.graph.rules.coupling import Coupling, Ids
from yolo.layers import Layer
from yolo.layers.batchnorm import BatchNorm
from yolo.layers.combining import Route, Sam, ScaleChannels, Shortcut, normalised
from yolo.layers.convolutional import BN_EPSILON
from yolo.layers.pointwise import Activate, Implicit
from yolo.layers.pooling import MaxPool
from yolo.layers.rearranging import Reorg3d, Upsample

Product = ScaleChannels | Sam


class BatchNormRule(Rule[BatchNorm]):
    """Scales and shifts each channel."""

    def constant(self, layer: BatchNorm, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        gain = tensors["scales"] / torch.sqrt(tensors["variance"] + BN_EPSILON)
        return (values[0] - tensors["mean"]) * gain + tensors["biases"]


class IdentityRule(Rule[Layer]):
    """Its output is its input."""

    scales = True


class ActivationRule(Rule[Activate]):
    scales = True

    def constant(self, layer: Activate, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return layer.activation(values[0])


class UpsampleRule(Rule[Upsample]):
    scales = True

    def constant(self, layer: Upsample, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return values[0] * layer.scale


class MaxPoolRule(Rule[MaxPool]):
    """Channel by channel, unless it takes the maximum over channels."""

    scales = True
    over_channels = Pinned("feeds a [{}] over channels")

    def _rule(self, layer: MaxPool) -> Rule[Any]:
        return self.over_channels if layer.depth else Rule()

    def couple(self, layer: MaxPool, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        return self._rule(layer).couple(layer, sources, coupling)

    def constant(self, layer: MaxPool, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return self._rule(layer).constant(layer, tensors, values)


class RouteRule(Rule[Route]):
    """Concatenates; a slice of each source ties the counts of its slices."""

    scales = True

    def couple(self, layer: Route, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        for ids in sources:
            coupling.keep_equal(ids, layer.groups)
        parts = [np.split(ids, layer.groups)[layer.group_id] for ids in sources]
        return np.concatenate(parts)

    def constant(self, layer: Route, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return torch.cat([v.chunk(layer.groups)[layer.group_id] for v in values])


class ShortcutRule(Rule[Shortcut]):
    """Ties all its sources; the widths of an unequal one stay as they are.

    AlexeyAB's Darknet reads out of bounds where an unequal source's own input happens to be as
    wide as the shortcut, so that width mustn't change either.
    """

    scales = True

    def couple(self, layer: Shortcut, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        for ids in sources[1:]:
            common = min(len(ids), len(sources[0]))
            coupling.unite(sources[0][:common], ids[:common])
        if layer.unequal:
            behind = (ids for source in layer.sources for ids in coupling.inputs.get(source, ()))
            for ids in (*sources, *behind):
                coupling.pin(ids, f"belongs to a [{layer.section.name}] of unequal widths")
        return sources[0]

    def constant(self, layer: Shortcut, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        factors = normalised(tensors.get("weights"), layer.normalization)
        total = torch.zeros_like(values[0])
        for n, value in enumerate(values):
            common = min(len(value), len(total))
            factor = 1 if factors is None else factors[n][:common]
            total[:common] += value[:common] * factor
        return layer.activation(total)

    def cut(self, layer: Shortcut, tensors: Tensors, kept: Kept) -> Change:
        per_channel = {n: t if t.shape[1] == 1 else t[:, kept.outputs] for n, t in tensors.items()}
        return {}, per_channel


class ProductRule(Rule[Product]):
    """Ties the factor's channels to those that it scales, unless it is one factor a place."""

    def couple(self, layer: Product, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        factor, scaled = sources
        if len(factor) == len(scaled):
            coupling.unite(factor, scaled)
        else:
            coupling.pin(factor, f"feeds a [{layer.section.name}] with one factor a place")
            coupling.pin(scaled, f"is scaled place by place by [{layer.section.name}]")
        return scaled

    def constant(self, layer: Product, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return layer.activation(values[0] * values[1])


class Reorg3dRule(Rule[Reorg3d]):
    """Every input channel comes out stride² times, in the order (dy, dx, c)."""

    mixing = Pinned("feeds a [{}] that mixes channels and places")

    def couple(self, layer: Reorg3d, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        if layer.reverse:
            return self.mixing.couple(layer, sources, coupling)
        return np.tile(sources[0], layer.stride**2)

    def constant(self, layer: Reorg3d, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        if layer.reverse:
            return self.mixing.constant(layer, tensors, values)
        return values[0].repeat(layer.stride**2)


class ImplicitRule(Rule[Implicit]):
    """Constants by themselves, if there is one a channel."""

    def couple(self, layer: Implicit, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        outputs = coupling.fresh(layer.out_shape.channels)
        if layer.out_shape.height > 1:
            coupling.pin(outputs, "has several atoms a channel")
        return outputs

    def constant(self, layer: Implicit, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return tensors["weights"][:, 0]

    def cut(self, layer: Implicit, tensors: Tensors, kept: Kept) -> Change:
        edits: Edits = {}
        if len(kept.outputs) < layer.out_shape.channels:
            edits["filters"] = len(kept.outputs)
        return edits, {name: tensor[kept.outputs] for name, tensor in tensors.items()}
