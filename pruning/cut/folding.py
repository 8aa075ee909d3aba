"""Exact cuts: silenced channels are constants, and constants are carried on.

A channel whose γ is 0 still outputs act(β). Unpadded consumers take it up in their bias or BN mean.
Where zero padding is seen, the mean fold is wrong at the borders; there one *constant channel* is
kept, which outputs act(1), and the consumer's weight for it is Σ c_i·W[:, i] / act(1).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pruning.cut.borders import border_energy, needs_channel
from pruning.cut.constants import Constants, constants, tensors_of
from pruning.graph.channels import ChannelGraph, Family, Mask
from pruning.graph.rules import Demand, taps
from pruning.graph.rules.coupling import Ids
from yolo.layers.convolutional import Convolutional
from yolo.network import State

LEAST_VALUE = 1e-3  # a smaller constant can't carry others
# a constant channel takes at most a quarter of what a cut saves, and an eighth of a layer
LEAST_SAVED, LEAST_KEPT = 4, 8


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
                total += border_energy(layer, taps(layer, weights, values))
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
