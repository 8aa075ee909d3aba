"""Exact cuts: silenced channels are constants, and constants are carried on.

A channel whose γ is 0 still outputs act(β). Unpadded consumers take it up in their bias or BN mean.
Where zero padding is seen, the mean fold is wrong at the borders; there one *constant channel* is
kept, which outputs act(1), and the consumer's weight for it is Σ c_i·W[:, i] / act(1).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.graph.channels import ChannelGraph, Family, Mask
from pruning.graph.rules import Demand, Producer, Tensors, Weighted, rule_of, taps
from pruning.graph.rules.coupling import Ids
from yolo.layers import IMAGE, Layer
from yolo.layers.convolutional import Convolutional
from yolo.network import Network, State

LEAST_VALUE = 1e-3  # a smaller constant can't carry others
# a constant channel takes at most a quarter of what a cut saves, and an eighth of a layer
LEAST_SAVED, LEAST_KEPT = 4, 8


@dataclass(frozen=True)
class Constants:
    """Per section, the outputs of channels whose groups are silenced, or constant channels."""

    silenced: dict[int, Tensor]
    emitted: dict[int, Tensor]


def constants(network: Network, state: State) -> Constants:
    """Carry the constants through all sections, in the dtype of the state."""
    return Constants(_propagate(network, state, False), _propagate(network, state, True))


def _propagate(network: Network, state: State, emitted: bool) -> dict[int, Tensor]:
    dtype = next((t.dtype for tensors in state.values() for t in tensors.values()), torch.float32)
    values = {IMAGE: torch.zeros(network.image.channels, dtype=dtype)}
    for i, layer in enumerate(network.layers):
        rule, tensors = rule_of(layer), tensors_of(network, state, i)
        if emitted and isinstance(rule, Producer):
            shift = torch.full_like(tensors["biases"], rule.emitted(layer))
            tensors = {**tensors, "biases": shift}
        values[i] = rule.constant(layer, tensors, [values[source] for source in layer.sources])
    return values


def tensors_of(network: Network, state: State, index: int) -> Tensors:
    """The tensors that a section computes with, be they its own or shared ones."""
    owner = network.layers[index].owner
    return state.get(owner.section.index if owner else index, {})


@dataclass(frozen=True)
class Fold:
    """A cut in full: the groups that stay as they are, and those that stay as constants."""

    alive: Mask
    constant_channels: Mask
    constants: Constants = field(repr=False)
    seen: Mask = field(repr=False)  # groups whose constant only a constant channel can carry
    ignored: bool = False  # constants are taken as zero
    constraints: tuple[Demand, ...] = ()  # what sections ask of the constants

    @property
    def kept(self) -> Mask:
        return self.alive | self.constant_channels

    @functools.cached_property
    def weighers(self) -> frozenset[int]:
        """Sections that can't take up constants in a shift, as a constraint says."""
        return _weighers(self.constraints)

    @functools.cached_property
    def constant_values(self) -> NDArray[np.float64]:
        """The size of each group's constant where it is a constant channel, 1 in general.

        Where a section constrains them, they are as large as it asks.
        """
        sizes = np.ones(len(self.alive))
        for constraint in self.constraints:
            ids, source = constraint.ids, constraint.source
            constant_channels = self.constant_channels[ids]
            cut = self.constants.silenced[source][torch.from_numpy(~self.alive[ids])]
            emitted = self.constants.emitted[source][torch.from_numpy(constant_channels)]
            sizes[ids[constant_channels]] = constraint.scale(cut, emitted)
        return sizes


def _weighers(constraints: Iterable[Demand]) -> frozenset[int]:
    return frozenset(user for constraint in constraints for user in constraint.weighers)


class Folding:
    """Decides which families of a graph need a constant channel. `mode` is one of options.FOLDS."""

    def __init__(self, graph: ChannelGraph, state: State, mode: str = "auto") -> None:
        self.graph, self.state, self.mode = graph, state, mode
        self.constants = constants(graph.network, state)
        # groups whose constant a padded consumer sees, and those that couldn't carry it there
        self.seen = np.zeros(graph.size, bool)
        self.strength = np.full(graph.size, np.inf)
        self.constraints = graph.constraints
        self.weighers = _weighers(self.constraints)
        self.constrained = np.zeros(graph.size, bool)
        for constraint in self.constraints:
            silenced = self.constants.silenced[constraint.source]
            self.constrained[constraint.ids[(silenced != 0).numpy()]] = True
        self.seen |= self.constrained
        for i, layer in self._padded():
            (ids,), (source,) = graph.inputs[i], layer.sources
            # a group may have several channels here
            self.seen[ids[(self.constants.silenced[source] != 0).numpy()]] = True
            strength = self.constants.emitted[source].abs().double().numpy()
            np.minimum.at(self.strength, ids, strength)
        self.weak = self.strength < LEAST_VALUE

    def fold(self, alive: Mask, mean: Collection[tuple[int, int]] | None = None) -> Fold:
        """The constant channels that go with a choice of living groups.

        `mean` holds the names of the families that go without; None leaves it to the rule for
        narrow layers.
        """
        constant_channels = np.zeros_like(alive)
        for family in self.graph.families:
            if alive[family.groups].all() or not self.needs(family, alive):
                continue
            kept = int(alive[family.groups[0]].sum()) + 1
            without = self.narrow(family, kept) if mean is None else family.name in mean
            if self.mode == "exact" or not without or self._constrained(family, alive):
                for part in family.groups:
                    constant_channels[self._constant_channel(part[~alive[part]])] = True
        for constraint in self.constraints:
            # where all that is cut is 0, so must be what stands for it
            cut = torch.from_numpy(~alive[constraint.ids])
            if not self.constants.silenced[constraint.source][cut].any():
                constant_channels[constraint.ids] = False
        ignored = self.mode == "none"
        return Fold(alive, constant_channels, self.constants, self.seen, ignored, self.constraints)

    def needs(self, family: Family, alive: Mask) -> bool:
        """True where the family's cut asks for a constant channel that can do its work."""
        by_mean = self.mode == "mean" and not self._constrained(family, alive)
        if by_mean or self.mode == "none":
            return False
        dropped, weak = ~alive[family.groups], self.weak[family.groups]
        seen = self.seen[family.groups] & dropped
        able = (dropped & ~weak).any(1).all() or self._constrained(family, alive)
        return bool(seen.any() and able)

    def _constant_channel(self, groups: Ids) -> int:
        """Which of the cut groups becomes the constant channel: the first that is strong enough."""
        strong = groups[~self.weak[groups]]
        return int(strong[0] if len(strong) else groups[self.strength[groups].argmax()])

    def _constrained(self, family: Family, alive: Mask) -> bool:
        """True where the family's cut leaves constants to a section that has no mean for them."""
        return bool((self.constrained & ~alive)[family.groups].any())

    def narrow(self, family: Family, kept: int) -> bool:
        """True where a constant channel among `kept` slots would eat much of what the cut saves."""
        saved, channels = family.slots - kept, kept * family.unit
        return self.mode == "auto" and (saved < LEAST_SAVED or channels < LEAST_KEPT)

    def border_loss(self, family: Family, alive: Mask) -> float:
        """Energy per output that the mean fold of the family's cut gets wrong at the borders."""
        cut = np.zeros_like(alive)
        cut[family.groups] = ~alive[family.groups]
        total = 0.0
        for i, layer in self._padded():
            (ids,), (source,) = self.graph.inputs[i], layer.sources
            if cut[ids].any():
                values = self.constants.silenced[source] * torch.from_numpy(cut[ids])
                weights = tensors_of(self.graph.network, self.state, i)["weights"]
                total += _border_energy(layer, taps(layer, weights, values))
        return total

    def channel_loss(self, groups: Ids, deviation: NDArray[np.float64]) -> float:
        """Energy per output of the padded consumers that goes with these groups.

        `deviation` is, for each group, the standard deviation of its channel.
        """
        lost = np.zeros(self.graph.size)
        lost[groups] = deviation[groups] ** 2
        total = 0.0
        for i, layer in self._padded():
            (ids,) = self.graph.inputs[i]
            if lost[ids].any():
                weights = tensors_of(self.graph.network, self.state, i)["weights"]
                parts = weights.unflatten(0, (layer.groups, -1))
                energy = parts.double().square().sum((1, 3, 4)).flatten()
                total += float(energy @ torch.from_numpy(lost[ids]))
        return total

    def _padded(self) -> Iterator[tuple[int, Convolutional]]:
        """The sections that `needs_channel` is true of, but for depthwise ones."""
        for i, layer in enumerate(self.graph.network.layers):
            if needs_channel(layer, self.weighers) and layer.mixes:
                yield i, layer


def needs_channel(layer: Layer, weighers: Collection[int]) -> TypeGuard[Convolutional]:
    """True where no shift can stand for constants that enter: padding, or a constraint."""
    if not isinstance(layer, Convolutional):
        return False
    return layer.padding > 0 or layer.section.index in weighers


def _inside(layer: Convolutional, axis: int) -> Tensor:
    """The taps that lie inside the map, for every output along an axis: (out, k) of 0 and 1."""
    shape, out = layer.inputs[0], layer.out_shape
    length, count = ((shape.height, out.height), (shape.width, out.width))[axis]
    start = torch.arange(count) * layer.stride[axis] - layer.padding * layer.dilation
    place = start[:, None] + torch.arange(layer.size) * layer.dilation
    return ((place >= 0) & (place < length)).double()


def mean_shift(layer: Convolutional, added: Tensor) -> Tensor:
    """The mean over all outputs of what constants add through the taps (n, k, k): (n,)."""
    rows, columns = (_inside(layer, axis).mean(0) for axis in (0, 1))
    return (added * torch.outer(rows, columns).to(added.dtype)).sum((1, 2))


def _border_energy(layer: Convolutional, added: Tensor) -> float:
    """Mean square over all places of what mean_shift gets wrong, summed over the outputs."""
    inside = [_inside(layer, axis) for axis in (0, 1)]
    second = [m.T @ m / len(m) for m in inside]
    square = torch.einsum("oab,ac,bd,ocd->o", added.double(), second[0], second[1], added.double())
    return float((square - mean_shift(layer, added.double()).square()).clamp(min=0).sum())


@dataclass(frozen=True)
class Absorbed:
    """The constants that a consumer takes up of its cut inputs.

    `shift` is added to its outputs before BN, `columns` are new weights (n, k, k) for constant
    channels among its inputs; `forgotten` are the cut inputs (C,) that only the shift stands for
    though it isn't exact.
    """

    forgotten: Mask
    shift: Tensor | None = None
    columns: dict[int, Tensor] = field(default_factory=dict)


def absorb(layer: Layer, tensors: Tensors, ids: Ids, fold: Fold, source: int) -> Absorbed:
    """The part of the cut groups among its inputs `ids` (C,) that a section's weights take up."""
    dropped = ~fold.alive[ids]
    if fold.ignored or not dropped.any():
        return Absorbed(dropped)
    exact = np.zeros_like(dropped)
    values = fold.constants.silenced[source] * torch.from_numpy(dropped)
    rule, weights = rule_of(layer), tensors["weights"]
    if needs_channel(layer, fold.weighers):
        emitted = fold.constants.emitted[source]
        emitted = emitted * torch.from_numpy(fold.constant_values[ids]).to(emitted)
        return _absorb_padded(
            layer, taps(layer, weights, values), dropped, fold.constant_channels[ids], emitted
        )
    assert isinstance(rule, Weighted)
    return Absorbed(exact, rule.added(layer, weights, values))


def _over(added: Tensor, emitted: Tensor) -> Tensor:
    """Weights for a constant channel; none where it arrives as 0, as then all others do."""
    return added / emitted if emitted else torch.zeros_like(added)


def _absorb_padded(
    layer: Convolutional, added: Tensor, dropped: Mask, constant_channels: Mask, emitted: Tensor
) -> Absorbed:
    """Part by part: the first constant channel carries all, where there is one."""
    shift, columns, forgotten = mean_shift(layer, added), {}, dropped.copy()
    channels, rows = len(constant_channels) // layer.groups, len(added) // layer.groups
    for part in range(layer.groups):
        inputs = slice(part * channels, (part + 1) * channels)
        outputs = slice(part * rows, (part + 1) * rows)
        found = np.flatnonzero(constant_channels[inputs])
        if len(found):
            channel = inputs.start + int(found[0])
            columns[channel] = _over(added[outputs], emitted[channel])
            shift[outputs] = 0
            forgotten[inputs] = False
    return Absorbed(forgotten, shift, columns)
