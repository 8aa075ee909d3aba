"""The slots of every family, the best first: Candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pruning.cut.folding import Folding
from pruning.graph.channels import ChannelGraph, Family
from pruning.graph.rules.coupling import Ids
from pruning.measure.costs import Costs
from pruning.registry import IMPORTANCES
from pruning.selection.families import families
from pruning.selection.importance import GroupScores, Model, Scores
from pruning.spec import Spec


@dataclass(frozen=True)
class Candidate:
    """A family with its groups (parts, slots) and the slots' scores, the best first."""

    family: Family
    ranked: Ids
    scores: Scores
    floor: int  # slots with real channels that stay at least
    least: int  # slots that stay at least, a constant channel among them
    losses: Scores  # the scores, not divided by MACs

    @property
    def channels(self) -> int:
        """All that its slots have."""
        return self.family.cost * self.family.slots


@dataclass(frozen=True)
class Ranked:
    """All candidates of a spec, and the scores that rank them; `name` says what they are.

    `per_mac`: they are divided by MACs.
    """

    candidates: Sequence[Candidate]
    importance: GroupScores
    name: str
    per_mac: bool = False

    @property
    def drawable(self) -> bool:
        """True where any slot has a finite score."""
        return any(np.isfinite(c.scores).any() for c in self.candidates)

    @property
    def pool(self) -> int:
        """The channels that a percent is a share of."""
        return sum(c.channels for c in self.candidates)

    @property
    def most(self) -> int:
        """How many of them can go."""
        return sum(c.family.cost * (c.family.slots - c.least) for c in self.candidates)


def rank(model: Model, spec: Spec, folding: Folding) -> Ranked:
    """Rank what a spec allows to be cut; raises PlanError."""
    graph, cuttable = model.graph, families(model.graph, spec)
    name = spec.ranking.importance or model.best
    found = importance = GroupScores.of(model, name, spec.group)
    own = spec.ranking.per_mac
    per_mac = IMPORTANCES[name].per_mac if own is None else own
    if per_mac:
        importance = importance.divided(graph, slot_macs(graph, cuttable))
    nothing = np.zeros(graph.size, bool)
    candidates = []
    for family in cuttable:
        groups = family.groups
        order = np.argsort(-importance.groups[groups], axis=1, kind="stable")
        ranked = np.take_along_axis(groups, order, 1)
        floor = _floor(family, spec)
        constant = folding.mode == "exact" and folding.needs(family, nothing)
        least = min(floor + constant, family.slots)
        scores, losses = (s.groups[ranked].mean(0) for s in (importance, found))
        candidates.append(Candidate(family, ranked, scores, floor, least, losses))
    return Ranked(candidates, importance, f"{name} per MAC" if per_mac else name, per_mac)


def _floor(family: Family, spec: Spec) -> int:
    by_count = -(-spec.limits.keep_min // family.unit)
    # 0.1 of 30 slots are 3, though 0.1 · 30 is a little more
    by_share = math.ceil(spec.layer_keep * family.slots * (1 - 1e-12))
    return min(max(by_count, by_share), family.slots)


def slot_macs(graph: ChannelGraph, families: Sequence[Family]) -> Scores:
    """The MACs that go with each group's slot where all else stays; 1 for other groups."""
    costs, everything = Costs(graph), np.ones(graph.size, bool)
    total, macs = costs.of(everything).macs, np.ones(graph.size)
    for family in families:
        without = everything.copy()
        without[family.groups[:, 0]] = False
        macs[family.groups] = max(total - costs.of(without).macs, 1)
    return macs
