"""The channel graph: which channels must live and die together.

Every output channel has an id; the rules of the sections tie ids into groups, the atoms of pruning.
Groups that appear in the same sections form a family: it is the family's count that is chosen.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pruning.graph.rules import Demand, has_filters, rule_of
from pruning.graph.rules.coupling import Coupling, Ids
from yolo.layers import IMAGE
from yolo.network import Network

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Family:
    """Groups of the same sections; all of its parts keep equally many.

    `groups` is (parts, slots): a slot takes one group of every part. `sections` are the ones with
    filters for them, `first` is the family's first channel in the first of these. A slot has `unit`
    channels in the section where it has fewest, `cost` in all.
    """

    sections: tuple[int, ...]
    first: int
    groups: Ids = field(repr=False)
    unit: int
    cost: int

    @property
    def name(self) -> tuple[int, int]:
        """Section and channel: no other family has them."""
        return self.sections[0], self.first

    @property
    def slots(self) -> int:
        return self.groups.shape[1]

    def __str__(self) -> str:
        first, *others = self.sections
        parts = f" in {len(self.groups)} parts" if len(self.groups) > 1 else ""
        coupled = f" ⇒ {', '.join(map(str, others))}" if others else ""
        return f"{first}{coupled}: {self.slots * self.unit} channels{parts}"


class ChannelGraph:
    """The groups of all channels of a network, and the families that can be pruned."""

    def __init__(self, network: Network) -> None:
        self.network = network
        coupling = Coupling()
        image = coupling.fresh(network.image.channels)
        coupling.pin(image, "is the network's input")
        coupling.outputs[IMAGE] = image
        for i, layer in enumerate(network.layers):
            sources = [coupling.outputs[source] for source in layer.sources]
            coupling.inputs[i] = sources
            coupling.outputs[i] = rule_of(layer).couple(layer, sources, coupling)
        self._pin_results(coupling)
        for i, layer in enumerate(network.layers):
            rule_of(layer).pin(network, i, coupling)
        self.size = len(coupling)
        self.outputs = {i: coupling.find(ids) for i, ids in coupling.outputs.items()}
        self.inputs = {
            i: [self.outputs[source] for source in layer.sources]
            for i, layer in enumerate(network.layers)
        }
        self.producers = [
            i for i, layer in enumerate(network.layers) if has_filters(layer) and not layer.owner
        ]
        self._reasons: dict[int, str] = {}
        self.pinned = self._pinned(coupling)
        equal = self._resolve(coupling)
        self.families = self._families(equal)

    @functools.cached_property
    def constraints(self) -> tuple[Demand, ...]:
        """The demands of sections on a cut among their inputs, beside what is pinned."""
        constraints = (
            rule_of(layer).constraint(self.network, i, self.inputs[i])
            for i, layer in enumerate(self.network.layers)
        )
        return tuple(constraint for constraint in constraints if constraint)

    def touched(self, *types: str) -> Mask:
        """The groups that enter a section of these types."""
        touched = np.zeros(self.size, bool)
        for i, layer in enumerate(self.network.layers):
            if layer.section.type in types:
                for ids in self.inputs[i]:
                    touched[ids] = True
        return touched

    def count(self, groups: Mask) -> int:
        """Channels that these groups have in sections with filters."""
        return sum(int(groups[self.outputs[i]].sum()) for i in self.producers)

    def reason(self, section: int) -> str | None:
        """Why the output of a section can't be pruned; None where it can."""
        ids = self.outputs[section]
        if not self.pinned[ids].all():
            return None
        return self._reasons[int(ids[0])]

    def prunable(self, section: int) -> bool:
        """True for a section with filters whose outputs can be cut."""
        return section in set(self.producers) and self.reason(section) is None

    def __str__(self) -> str:
        return "\n".join(map(str, self.families))

    def _pin_results(self, coupling: Coupling) -> None:
        network, heads = self.network, set(self.network.heads)
        for i, layer in enumerate(network.layers):
            if i in heads and not layer.is_head:
                coupling.pin(coupling.outputs[i], "is the network's output")
            elif not network.consumers[i] and not layer.is_head:
                coupling.pin(coupling.outputs[i], "is used by no other section")

    def _pinned(self, coupling: Coupling) -> Mask:
        pinned = np.zeros(self.size, bool)
        for ids, reason in coupling.pins:
            self._pin(pinned, coupling.find(ids), reason)
        filtered = np.zeros(self.size, bool)
        for i in self.producers:
            filtered[self.outputs[i]] = True
        self._pin(pinned, np.flatnonzero(~filtered), "comes from no filters")
        return pinned

    def _pin(self, pinned: Mask, groups: Ids, reason: str) -> None:
        new = np.unique(groups[~pinned[groups]])
        pinned[new] = True
        self._reasons.update(dict.fromkeys(new.tolist(), reason))

    def _resolve(self, coupling: Coupling) -> list[Ids]:
        """The equal counts that aren't implied by others; what they can't be kept for is pinned."""
        independent: list[Ids] = []
        owner = np.full(self.size, -1)
        equal = [coupling.find(ids) for ids in coupling.equal]
        for parts in sorted(equal, key=len, reverse=True):
            owners = np.unique(owner[parts])
            if len(np.unique(parts)) < parts.size:
                self._pin(self.pinned, parts, "appears in several parts of one section")
            elif (owners == -1).all():
                owner[parts] = len(independent)
                independent.append(parts)
            elif len(owners) > 1 or not _implies(independent[owners[0]], parts):
                overlapping = [independent[o] for o in owners if o >= 0]
                for groups in (parts, *overlapping):
                    self._pin(self.pinned, groups, "belongs to parts that overlap")
        return self._without_pinned(independent)

    def _without_pinned(self, equal: list[Ids]) -> list[Ids]:
        """Parts with a pinned channel can't change; that may reach others."""
        reason = "must stay as wide as another part of its section"
        while True:
            stuck = [p for p in equal if self.pinned[p].any() and not self.pinned[p].all()]
            if not stuck:
                return [p for p in equal if not self.pinned[p].any()]
            for parts in stuck:
                self._pin(self.pinned, parts, reason)

    def _families(self, equal: list[Ids]) -> tuple[Family, ...]:
        """Free groups by the sections that have them, and by the parts that must stay equal."""
        free = ~self.pinned
        # the sum of a random number per section identifies the sections that have a group
        numbers = np.random.default_rng(0).integers(2**52, size=len(self.network.layers))
        group, section = self._channels(range(len(numbers)))
        signature = np.bincount(group, numbers[section], minlength=self.size)
        family_parts = [piece for parts in equal for piece in _uniform(parts, signature)]
        for parts in family_parts:
            free[parts] = False
        groups = np.flatnonzero(free)
        order = groups[np.argsort(signature[groups], kind="stable")]
        splits = np.flatnonzero(np.diff(signature[order])) + 1
        family_parts += [part[None] for part in np.split(order, splits) if len(part)]
        return self._described(family_parts)

    def _channels(self, sections: Sequence[int]) -> tuple[Ids, Ids]:
        """The group and the section of each of these sections' output channels."""
        none = np.zeros(0, np.int64)
        groups = np.concatenate((none, *(self.outputs[i] for i in sections)))
        widths = [len(self.outputs[i]) for i in sections]
        return groups, np.repeat(np.array(sections, np.int64), np.array(widths, np.int64))

    def _described(self, family_parts: list[Ids]) -> tuple[Family, ...]:
        group, section = self._channels(self.producers)
        count = np.bincount(group, minlength=self.size)
        family_of = np.full(self.size, -1)
        for n, parts in enumerate(family_parts):
            family_of[parts] = n
        member = family_of[group]
        keys = (member * len(self.network.layers) + section)[member >= 0]
        unique, channels = np.unique(keys, return_counts=True)
        family, of_family = np.divmod(unique, len(self.network.layers))
        ends = np.searchsorted(family, np.arange(len(family_parts) + 1))
        families = []
        for n, parts in enumerate(family_parts):
            mine = slice(ends[n], ends[n + 1])
            sections = tuple(of_family[mine].tolist())
            slots = parts.shape[1]
            unit, cost = int(channels[mine].min()) // slots, int(count[parts].sum()) // slots
            first = int(np.isin(self.outputs[sections[0]], parts).argmax())
            families.append(Family(sections, first, parts, unit, cost))
        return tuple(sorted(families, key=lambda family: (family.sections, family.first)))


def _uniform(parts: Ids, signature: np.ndarray) -> list[Ids]:
    """Parts split where one of them goes on in other sections.

    A family has one constant channel a part, and all that the part feeds must see it.
    """
    changes = np.diff(signature[parts], axis=1).any(0)
    return np.split(parts, np.flatnonzero(changes) + 1, axis=1)


def _implies(finer: Ids, coarser: Ids) -> bool:
    """True where every part of `coarser` is made of equally many whole parts of `finer`."""
    if finer.size != coarser.size or len(finer) % len(coarser):
        return False
    of = {int(group): n for n, part in enumerate(finer) for group in part}
    met = [{of.get(int(group), -1) for group in part} for part in coarser]
    return all(-1 not in m and len(m) == len(finer) // len(coarser) for m in met)
