"""Rules of the sections that weigh their inputs: [convolutional], [connected], [local]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pruning.graph.rules.base import Change, Edits, Kept, L, Rule, Tensors
from pruning.graph.rules.coupling import Coupling, Ids
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.layers.local import Local

# the BN shift (or bias) of a constant channel; [stair] is 0 at 1
EMITTED, EMITTED_BY_STAIR = 1.0, 2.0

Filters = TypeVar("Filters", bound=Convolutional | Connected)


class Weighted(Rule[L]):
    """A section that weighs its inputs, so that it can take up their constants."""

    def added(self, layer: L, weights: Tensor, values: Tensor) -> Tensor:
        """The sum that constant inputs (C,) add to its outputs before BN, without padding."""
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


class Producer(Weighted[Filters]):
    """A section with filters: silenced, an output is a constant, act(shift)."""

    def constant(self, layer: Filters, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        shift = tensors["biases"]
        mixes = layer.activation.mixes_channels
        return torch.zeros_like(shift) if mixes else layer.activation(shift)

    def emitted(self, layer: Filters) -> float:
        """The shift of a constant channel: one that its activation doesn't make 0."""
        return EMITTED_BY_STAIR if layer.activation.name == "stair" else EMITTED

    def silence(self, layer: Filters, tensors: Tensors, channels: Tensor) -> dict[str, Tensor]:
        """Tensors whose `channels` output act(shift) whatever the input: γ = 0, or filters 0."""
        return _zeroed(tensors, "scales" if "scales" in tensors else "weights", channels)

    def mute(self, tensors: Tensors, channels: Tensor) -> dict[str, Tensor]:
        """Tensors without the shift of `channels`."""
        return _zeroed(tensors, "biases", channels)

    def emit(
        self, layer: Filters, tensors: dict[str, Tensor], channels: Tensor, times: Tensor
    ) -> None:
        """Make `channels` constant in place: their shift is `emitted`, `times` (C,) as large."""
        if not len(channels) or not tensors:
            return
        tensors["weights"][channels] = 0
        tensors["biases"][channels] = self.emitted(layer) * times.to(tensors["biases"])
        if "scales" in tensors:
            tensors["scales"][channels] = 0
            tensors["mean"][channels] = 0
            tensors["variance"][channels] = 1


def _zeroed(tensors: Tensors, name: str, channels: Tensor) -> dict[str, Tensor]:
    zeroed = tensors[name].clone()
    zeroed[channels] = 0
    return {**tensors, name: zeroed}


class ConvolutionalRule(Producer[Convolutional]):
    """Fresh outputs; depthwise ties each output to its input, groups tie counts."""

    scales = True

    def couple(self, layer: Convolutional, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        (ids,) = sources
        if layer.groups == len(ids) and layer.groups > 1:
            outputs = np.repeat(ids, layer.filters // len(ids))
        else:
            outputs = coupling.fresh(layer.filters)
            coupling.keep_equal(ids, layer.groups)
            coupling.keep_equal(outputs, layer.groups)
        if layer.activation.mixes_channels:
            coupling.pin(outputs, f"activation={layer.activation.name} mixes its channels")
        if layer.owner:
            shared = layer.owner.section.index
            coupling.unite(outputs, coupling.outputs[shared])
            # one bias can't take up the constants of two inputs
            for inputs in (ids, *coupling.inputs[shared]):
                coupling.pin(inputs, "feeds convolutions that share their weights")
        return outputs

    def cut(self, layer: Convolutional, tensors: Tensors, kept: Kept) -> Change:
        edits: Edits = {}
        if len(kept.outputs) < layer.filters:
            edits["filters"] = len(kept.outputs)
        if not layer.mixes:
            if len(kept.inputs[0]) < layer.groups:
                edits["groups"] = len(kept.inputs[0])
            return edits, {name: tensor[kept.outputs] for name, tensor in tensors.items()}
        out = {name: tensor[kept.outputs] for name, tensor in tensors.items() if name != "weights"}
        if "weights" in tensors:
            out["weights"] = _cut_grouped(tensors["weights"], layer.groups, kept)
        return edits, out

    def added(self, layer: Convolutional, weights: Tensor, values: Tensor) -> Tensor:
        return taps(layer, weights, values).sum((1, 2))

    def rewire(self, weights: Tensor, channels: int, channel: int, new: Tensor | None) -> None:
        part, column = divmod(channel, weights.shape[1])
        rows = weights.unflatten(0, (channels // weights.shape[1], -1))[part]
        rows[:, column] = 0 if new is None else new


def taps(layer: Convolutional, weights: Tensor, values: Tensor) -> Tensor:
    """The sums that constant inputs (C,) add to each output through each tap: (n, k, k)."""
    parts = weights.flatten(2).unflatten(0, (layer.groups, -1))
    added = values.view(layer.groups, 1, 1, -1) @ parts
    return added.reshape(-1, layer.size, layer.size)


def _cut_grouped(weights: Tensor, groups: int, kept: Kept) -> Tensor:
    outputs = kept.outputs.reshape(groups, -1)
    inputs = kept.inputs[0].reshape(groups, -1)
    columns = inputs - torch.arange(groups)[:, None] * weights.shape[1]
    # one gather of whole kernels is several times faster than one along each axis
    indices = outputs[:, :, None] * weights.shape[1] + columns[:, None]
    kernels = weights.flatten(0, 1).index_select(0, indices.flatten())
    return kernels.unflatten(0, (outputs.numel(), inputs.shape[1]))


class ConnectedRule(Producer[Connected]):
    """Fresh outputs; it sees every input channel H·W times."""

    def couple(self, layer: Connected, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        return coupling.fresh(layer.out_shape.channels)

    def cut(self, layer: Connected, tensors: Tensors, kept: Kept) -> Change:
        edits: Edits = {}
        if len(kept.outputs) < layer.out_shape.channels:
            edits["output"] = len(kept.outputs)
        out = {name: tensor[kept.outputs] for name, tensor in tensors.items()}
        columns = out["weights"].unflatten(1, (layer.inputs[0].channels, -1))
        out["weights"] = columns[:, kept.inputs[0]].flatten(1)
        return edits, out

    def added(self, layer: Connected, weights: Tensor, values: Tensor) -> Tensor:
        return weights.unflatten(1, (len(values), -1)).sum(2) @ values

    def rewire(self, weights: Tensor, channels: int, channel: int, new: Tensor | None) -> None:
        weights.unflatten(1, (channels, -1))[:, channel] = 0


class LocalRule(Weighted[Local]):
    """Its outputs stay: a bias a place means that a silenced one isn't a constant."""

    def couple(self, layer: Local, sources: Sequence[Ids], coupling: Coupling) -> Ids:
        outputs = coupling.fresh(layer.out_shape.channels)
        coupling.pin(outputs, "has a bias of its own at every place")
        return outputs

    def constant(self, layer: Local, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return torch.zeros(layer.out_shape.channels, dtype=values[0].dtype)

    def cut(self, layer: Local, tensors: Tensors, kept: Kept) -> Change:
        columns = tensors["weights"].unflatten(2, (layer.inputs[0].channels, -1))
        return {}, {**tensors, "weights": columns[:, :, kept.inputs[0]].flatten(2)}

    def added(self, layer: Local, weights: Tensor, values: Tensor) -> Tensor:
        """(filters, places): every place has a bias of its own, so that padding does no harm."""
        shape = layer.inputs[0]
        constant = values[None, :, None, None].expand(1, -1, shape.height, shape.width)
        patches = F.unfold(constant, layer.size, padding=layer.padding, stride=layer.stride)
        return torch.einsum("lfk,kl->fl", weights, patches[0])

    def rewire(self, weights: Tensor, channels: int, channel: int, new: Tensor | None) -> None:
        weights.unflatten(2, (channels, -1))[:, :, channel] = 0
