"""One rule a section type: how it ties channels, what a constant becomes in it, how it is cut.

The rule of a section type that isn't listed here pins its input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pruning.coupling import Coupling, Ids
from yolo.layers import (
    Layer,
    combining,
    connected,
    convolutional,
    local,
    pointwise,
    pooling,
    rearranging,
)

Tensors = Mapping[str, Tensor]
Edits = dict[str, object]
# the BN shift (or bias) of a constant channel; [stair] is 0 at 1
EMITTED, EMITTED_BY_STAIR = 1.0, 2.0


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


class Weighted(Rule):
    """A section that weighs its inputs, so that it can take up their constants."""

    def added(self, layer: Layer, weights: Tensor, values: Tensor) -> Tensor:
        """What constant inputs (C,) add to its outputs before BN, where it sees no padding."""
        raise NotImplementedError

    def rewire(self, weights: Tensor, channels: int, channel: int, new: Tensor | None) -> None:
        """Give input `channel` of `channels` new weights for its part's outputs, in place.

        None silences it: its constant has been taken up otherwise.
        """
        raise NotImplementedError

    def shifted(self, tensors: Tensors, shift: Tensor) -> dict[str, Tensor]:
        """Tensors whose outputs before BN are higher by `shift` (n,)."""
        if "scales" in tensors:
            return {**tensors, "mean": tensors["mean"] - shift}
        return {**tensors, "biases": tensors["biases"] + shift}


class Producer(Weighted):
    """A section with filters: silenced, an output is a constant, act(shift)."""

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        assert isinstance(layer, (convolutional.Convolutional, connected.Connected))
        shift = tensors["biases"]
        mixes = layer.activation.mixes_channels
        return torch.zeros_like(shift) if mixes else layer.activation(shift)

    def emitted(self, layer: Layer) -> float:
        """The shift of a constant channel: one that its activation doesn't make 0."""
        assert isinstance(layer, (convolutional.Convolutional, connected.Connected))
        return EMITTED_BY_STAIR if layer.activation.name == "stair" else EMITTED

    def silence(self, layer: Layer, tensors: Tensors, channels: Tensor) -> dict[str, Tensor]:
        """Tensors whose `channels` output act(shift) whatever the input: γ = 0, or filters 0."""
        name = "scales" if "scales" in tensors else "weights"
        silenced = tensors[name].clone()
        silenced[channels] = 0
        return {**tensors, name: silenced}

    def emit(self, layer: Layer, tensors: dict[str, Tensor], channels: Tensor) -> None:
        """Make `channels` output act(1) whatever the input, in place: constant channels."""
        if not len(channels) or not tensors:
            return
        tensors["weights"][channels] = 0
        tensors["biases"][channels] = self.emitted(layer)
        if "scales" in tensors:
            tensors["scales"][channels] = 0
            tensors["mean"][channels] = 0
            tensors["variance"][channels] = 1


class ConvolutionalRule(Producer):
    """Fresh outputs; depthwise ties each output to its input, groups tie counts."""

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        assert isinstance(layer, convolutional.Convolutional)
        (ids,) = sources
        if layer.groups == len(ids) and layer.groups > 1:
            made = np.repeat(ids, layer.filters // len(ids))
        else:
            made = coupling.fresh(layer.filters)
            coupling.keep_equal(ids, layer.groups)
            coupling.keep_equal(made, layer.groups)
        if layer.activation.mixes_channels:
            coupling.pin(made, f"activation={layer.activation.name} mixes its channels")
        if layer.owner:
            shared = layer.owner.section.index
            coupling.unite(made, coupling.outputs[shared])
            # one bias can't take up the constants of two inputs
            for inputs in (ids, *coupling.inputs[shared]):
                coupling.pin(inputs, "feeds convolutions that share their weights")
        return made

    def cut(self, layer: Layer, tensors: Tensors, kept: Kept) -> tuple[Edits, dict[str, Tensor]]:
        assert isinstance(layer, convolutional.Convolutional)
        edits: Edits = {}
        if len(kept.outputs) < layer.filters:
            edits["filters"] = len(kept.outputs)
        if depthwise(layer):
            if len(kept.inputs[0]) < layer.groups:
                edits["groups"] = len(kept.inputs[0])
            return edits, {name: tensor[kept.outputs] for name, tensor in tensors.items()}
        out = {name: tensor[kept.outputs] for name, tensor in tensors.items() if name != "weights"}
        if "weights" in tensors:
            out["weights"] = _cut_grouped(tensors["weights"], layer.groups, kept)
        return edits, out

    def added(self, layer: Layer, weights: Tensor, values: Tensor) -> Tensor:
        assert isinstance(layer, convolutional.Convolutional)
        return taps(layer, weights, values).sum((1, 2))

    def rewire(self, weights: Tensor, channels: int, channel: int, new: Tensor | None) -> None:
        part, column = divmod(channel, weights.shape[1])
        rows = weights.unflatten(0, (channels // weights.shape[1], -1))[part]
        rows[:, column] = 0 if new is None else new


def taps(layer: convolutional.Convolutional, weights: Tensor, values: Tensor) -> Tensor:
    """What constant inputs (C,) add to each output through each tap: (n, k, k)."""
    parts = weights.flatten(2).unflatten(0, (layer.groups, -1))
    added = values.view(layer.groups, 1, 1, -1) @ parts
    return added.reshape(-1, layer.size, layer.size)


def depthwise(layer: Layer) -> bool:
    """Whether every output channel of a convolution sees one input channel only."""
    return 1 < layer.inputs[0].channels == getattr(layer, "groups", 1)


def _cut_grouped(weights: Tensor, groups: int, kept: Kept) -> Tensor:
    outputs = kept.outputs.reshape(groups, -1)
    inputs = kept.inputs[0].reshape(groups, -1)
    columns = inputs - torch.arange(groups)[:, None] * weights.shape[1]
    # one gather of both axes is three times faster than one after the other
    parts = [weights[o[:, None], i] for o, i in zip(outputs, columns, strict=True)]
    return parts[0] if groups == 1 else torch.cat(parts)


class ConnectedRule(Producer):
    """Fresh outputs; it sees every input channel H·W times."""

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        return coupling.fresh(layer.out_shape.channels)

    def cut(self, layer: Layer, tensors: Tensors, kept: Kept) -> tuple[Edits, dict[str, Tensor]]:
        edits: Edits = {}
        if len(kept.outputs) < layer.out_shape.channels:
            edits["output"] = len(kept.outputs)
        out = {name: tensor[kept.outputs] for name, tensor in tensors.items()}
        columns = out["weights"].unflatten(1, (layer.inputs[0].channels, -1))
        out["weights"] = columns[:, kept.inputs[0]].flatten(1)
        return edits, out

    def added(self, layer: Layer, weights: Tensor, values: Tensor) -> Tensor:
        return weights.unflatten(1, (len(values), -1)).sum(2) @ values

    def rewire(self, weights: Tensor, channels: int, channel: int, new: Tensor | None) -> None:
        weights.unflatten(1, (channels, -1))[:, channel] = 0


class LocalRule(Weighted):
    """Its outputs stay: a bias a place means that a silenced one isn't a constant."""

    def couple(self, layer: Layer, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        made = coupling.fresh(layer.out_shape.channels)
        coupling.pin(made, "has a bias of its own at every place")
        return made

    def constant(self, layer: Layer, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return torch.zeros(layer.out_shape.channels, dtype=values[0].dtype)

    def cut(self, layer: Layer, tensors: Tensors, kept: Kept) -> tuple[Edits, dict[str, Tensor]]:
        columns = tensors["weights"].unflatten(2, (layer.inputs[0].channels, -1))
        return {}, {**tensors, "weights": columns[:, :, kept.inputs[0]].flatten(2)}

    def added(self, layer: Layer, weights: Tensor, values: Tensor) -> Tensor:
        """(filters, places): every place has a bias of its own, so that padding does no harm."""
        assert isinstance(layer, local.Local)
        shape = layer.inputs[0]
        constant = values[None, :, None, None].expand(1, -1, shape.height, shape.width)
        patches = F.unfold(constant, layer.size, padding=layer.padding, stride=layer.stride)
        return torch.einsum("lfk,kl->fl", weights, patches[0])

    def rewire(self, weights: Tensor, channels: int, channel: int, new: Tensor | None) -> None:
        weights.unflatten(2, (channels, -1))[:, :, channel] = 0


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


RULES: dict[str, Rule] = {
    "convolutional": ConvolutionalRule(),
    "connected": ConnectedRule(),
    "local": LocalRule(),
    "batchnorm": BatchNormRule(),
    "activation": ActivationRule(),
    "dropout": Rule(),
    "cost": Rule(),
    "maxpool": MaxPoolRule(),
    "local_avgpool": Rule(),
    "avgpool": Rule(),
    "upsample": UpsampleRule(),
    "route": RouteRule(),
    "shortcut": ShortcutRule(),
    "scale_channels": ProductRule(),
    "sam": ProductRule(),
    "implicit": ImplicitRule(),
    "reorg3d": Reorg3dRule(),
    "reorg": Pinned("feeds a [{}], which mixes channels and places"),
    "normalization": Pinned("feeds a [{}], which mixes neighbouring channels"),
    "crop": Pinned("feeds a [{}]"),
}
HEAD = Pinned("feeds a [{}] head")
UNKNOWN = Pinned("feeds a [{}], which has no rule here")


def has_filters(layer: Layer) -> bool:
    """Whether a section makes channels that can be cut."""
    return isinstance(rule_of(layer), Producer)


def rule_of(layer: Layer) -> Rule:
    """The rule for a section."""
    return HEAD if layer.is_head else RULES.get(layer.section.type, UNKNOWN)
