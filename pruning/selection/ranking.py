"""The slots of every family, the best first: Candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pruning.cut.folding import Folding
from pruning.graph.channels import ChannelGraph, Family
from pruning.graph.coupling import Ids
from pruning.measure.costs import Costs
from pruning.selection.importance import PRICES, Importance, Model, Scores
from pruning.selection.wish import Wish


@dataclass(frozen=True)
class Candidate:
    """A family with its groups (parts, slots) and the slots' scores, the best first."""

    family: Family
    ranked: Ids
    scores: Scores
    floor: int  # slots with real channels that stay at least
    least: int  # slots that stay at least, a constant channel among them

    @property
    def channels(self) -> int:
        """All that its slots have."""
        return self.family.cost * self.family.slots


@dataclass(frozen=True)
class Ranking:
    """All candidates of a wish, and the scores that rank them; `name` says what they are."""

    candidates: Sequence[Candidate]
    importance: Importance
    name: str

    @property
    def drawable(self) -> bool:
        """Whether any slot has a finite score."""
        return any(np.isfinite(c.scores).any() for c in self.candidates)

    @property
    def pool(self) -> int:
        """The channels that a percent is a share of."""
        return sum(c.channels for c in self.candidates)

    @property
    def most(self) -> int:
        """How many of them can go."""
        return sum(c.family.cost * (c.family.slots - c.least) for c in self.candidates)


def rank(model: Model, wish: Wish, folding: Folding) -> Ranking:
    """Rank what a wish allows to be cut; raises PlanError."""
    graph, families = model.graph, wish.families(model.graph)
    name = wish.importance or model.best
    importance = Importance.of(model, name, wish.group_score)
    per_mac = name in PRICES if wish.per_mac is None else wish.per_mac
    if per_mac:
        importance = importance.divided(graph, slot_macs(graph, families))
    nothing = np.zeros(graph.size, bool)
    found = []
    for family in families:
        groups = family.groups
        order = np.argsort(-importance.groups[groups], axis=1, kind="stable")
        ranked = np.take_along_axis(groups, order, 1)
        floor = _floor(family, wish)
        constant = folding.mode == "exact" and folding.needs(family, nothing)
        least = min(floor + constant, family.slots)
        found.append(Candidate(family, ranked, importance.groups[ranked].mean(0), floor, least))
    return Ranking(found, importance, f"{name} per MAC" if per_mac else name)


def _floor(family: Family, wish: Wish) -> int:
    by_count = -(-wish.keep_min // family.unit)
    # 0.1 of 30 slots are 3, though 0.1 · 30 is a little more
    by_share = math.ceil(wish.least_share * family.slots * (1 - 1e-12))
    return min(max(by_count, by_share), family.slots)


def slot_macs(graph: ChannelGraph, families: Sequence[Family]) -> Scores:
    """The MACs that go with each group's slot where all else stays; 1 for other groups."""
    costs, everything = Costs(graph), np.ones(graph.size, bool)
    whole, found = costs.of(everything).macs, np.ones(graph.size)
    for family in families:
        without = everything.copy()
        without[family.groups[:, 0]] = False
        found[family.groups] = max(whole - costs.of(without).macs, 1)
    return found
