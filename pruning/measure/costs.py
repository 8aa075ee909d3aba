"""Costs of cut networks from the groups that they keep; no network is built for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from pruning.cut.folding import Fold
from pruning.cut.plan import Plan
from pruning.graph.channels import ChannelGraph, Mask
from pruning.graph.rules import has_filters
from pruning.graph.rules.coupling import Ids
from pruning.measure.savings import SectionRates
from yolo.layers import IMAGE, Layer
from yolo.models.weights import FLOAT, Header, weights_size
from yolo.network import Network

Measure = Callable[[Plan, Fold], float]  # a number of the network that a plan and its fold make


@runtime_checkable
class Estimate(Protocol):
    """A Measure that estimates a quantity which takes long to measure."""

    def __call__(self, plan: Plan, fold: Fold) -> float: ...

    def measure(self, plan: Plan, fold: Fold) -> float:
        """Measure this cut; later estimates are corrected by it."""
        ...


@dataclass(frozen=True)
class Cost:
    """Channels of all sections with filters, parameters, MACs of one image, bytes of weights.

    The names are those of targets (spec.COUNTED), and of all JSON.
    """

    channels: int
    parameters: int
    macs: int
    bytes: int

    @classmethod
    def of(cls, network: Network, header: Header) -> Cost:
        """That of a network as it is."""
        filters = (layer.out_shape.channels for layer in network.layers if has_filters(layer))
        return cls(
            sum(filters),
            network.count_parameters(),
            network.macs(),
            weights_size(network, header),
        )


@dataclass(frozen=True)
class _Sum:
    """A number that every section adds to: fixed + Σ each·outputs + Σ pair·outputs·inputs/groups.

    `each` and `pair` are (sections,).
    """

    fixed: int
    each: Ids
    pair: Ids

    def at(self, outputs: Ids, pairs: Ids) -> int:
        return self.fixed + int(self.each @ outputs + self.pair @ pairs)


class Costs:
    """The costs of all cuts of a plain network: microseconds each.

    They are what Network.count_parameters, macs and weights.weights_size say of the cut network.
    """

    def __init__(self, graph: ChannelGraph, header: Header | None = None) -> None:
        layers = graph.network.layers
        self._header = header or Header()
        sections = [*range(len(layers)), IMAGE]  # so that a source is found at its own index
        self._ids = np.concatenate([graph.outputs[i] for i in sections])
        widths = [len(graph.outputs[i]) for i in sections]
        self._starts = np.cumsum([0, *widths[:-1]])
        self._sources = np.array([(*layer.sources, IMAGE)[0] for layer in layers])
        self._groups = np.array([_groups(layer) for layer in layers])
        self._filters = np.array([has_filters(layer) for layer in layers])
        self._params = _sum([_of_tensors(layer, True) for layer in layers])
        self._floats = _sum([_of_tensors(layer, False) for layer in layers])
        self._macs = _sum([_of_macs(layer) for layer in layers])

    def of(self, kept: Mask) -> Cost:
        """The costs with these groups left, constant channels among them: Fold.kept (groups,)."""
        inputs, outputs = self.widths(kept)
        pairs = outputs * (inputs // self._groups)
        return Cost(
            int(outputs[self._filters].sum()),
            self._params.at(outputs, pairs),
            self._macs.at(outputs, pairs),
            self._header.size + FLOAT.itemsize * self._floats.at(outputs, pairs),
        )

    def widths(self, kept: Mask) -> tuple[Ids, Ids]:
        """The channels that enter every section, from its first source, and its own: (sections,)"""
        widths = np.add.reduceat(kept[self._ids], self._starts, dtype=np.int64)
        return widths[self._sources], widths[:-1]

    def rates(self) -> SectionRates:
        """The MACs of every section, by its widths."""
        each, pair = (numbers.astype(float) for numbers in (self._macs.each, self._macs.pair))
        return SectionRates(np.zeros_like(each), each, pair / self._groups)

    def measures(self) -> dict[str, Measure]:
        """A Measure for each kind of target that is counted."""
        return {
            "channels": lambda plan, fold: self.of(fold.kept).channels,
            "parameters": lambda plan, fold: self.of(fold.kept).parameters,
            "macs": lambda plan, fold: self.of(fold.kept).macs,
            "bytes": lambda plan, fold: self.of(fold.kept).bytes,
        }


_Terms = tuple[int, int, int]  # of one section: fixed, each, pair


def _sum(sections: list[_Terms]) -> _Sum:
    fixed, each, pair = np.array(sections, np.int64).T
    return _Sum(int(fixed.sum()), each, pair)


def _of_tensors(layer: Layer, learned: bool) -> _Terms:
    """Numbers of a section's tensors: of all, or of those that are learned only."""
    fixed, each, pair = 0, 0, 0
    for name, tensor in layer.stored().items():
        if learned and not isinstance(tensor, nn.Parameter):
            continue
        if name == "weights" and layer.mixes:
            pair += _pair(layer, tensor.numel())
        elif _per_channel(layer, tensor):
            each += tensor.numel() // layer.out_shape.channels
        else:
            fixed += tensor.numel()
    return fixed, each, pair


def _of_macs(layer: Layer) -> _Terms:
    if layer.mixes:
        return 0, 0, _pair(layer, layer.macs())
    each, fixed = divmod(layer.macs(), layer.out_shape.channels)
    return fixed, each, 0


def _groups(layer: Layer) -> int:
    return layer.groups if layer.mixes else 1


def _pair(layer: Layer, number: int) -> int:
    """The part of a number that belongs to one output and one input: k² weights, say."""
    return number * _groups(layer) // (layer.out_shape.channels * layer.inputs[0].channels)


def _per_channel(layer: Layer, tensor: Tensor) -> bool:
    """True where it has a row a channel; that of a [shortcut] has a row a source."""
    axis = 1 if layer.section.type == "shortcut" else 0
    return tensor.shape[axis] == layer.out_shape.channels
