"""The schedule: the order in which slots go, and the cut at each of its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pruning.cut.folding import Fold, Folding
from pruning.cut.plan import Plan
from pruning.graph.channels import Family, Mask
from pruning.selection.importance import Model, Scores, channel_scores, group_scores
from pruning.selection.order import order
from pruning.selection.ranking import Candidate, rank
from pruning.spec import Spec

LEAST_POWER = 8  # the smallest count that is rounded to a power of two


@dataclass(frozen=True)
class Step:
    """A cut on a schedule, counts rounded and constant channels chosen."""

    plan: Plan
    fold: Fold


class Schedule:
    """The order in which slots go, and the cut at each step of it: at(0) cuts nothing."""

    def __init__(self, model: Model, spec: Spec, folding: Folding) -> None:
        """Raises PlanError for a spec that names what isn't there."""
        self.spec, self.folding, self._graph = spec, folding, model.graph
        self.ranked = rank(model, spec, folding)
        union = spec.percent if spec.group == "union" else None
        self.order = order(model, self.ranked, spec.ranking.compare, union)
        # what is lost with a channel is its deviation, whatever ranked it
        scales = channel_scores(model.graph, model.state)
        self._deviation = group_scores(model.graph, scales, "max")
        self._steps: dict[int, Step] = {}

    def __len__(self) -> int:
        return len(self.order)

    @property
    def limit(self) -> str:
        """The limit at its end, in words."""
        return f"keeping at least {self.spec.kept}"

    def at(self, step: int) -> Step:
        """The cut after so many steps."""
        if step not in self._steps:
            self._steps[step] = self.cut(self._counts(step))
        return self._steps[step]

    def cut(self, counts: Sequence[int]) -> Step:
        """The cut that leaves so many slots of every candidate, constant channels among them."""
        plan, alive = self._plan(counts)
        return Step(plan, self.folding.fold(alive, plan.mean))

    def _counts(self, step: int) -> list[int]:
        removed = np.bincount(self.order[:step], minlength=len(self.ranked.candidates))
        return [
            _rounded(c.family, c.family.slots - lost, self.spec.round_to)
            for c, lost in zip(self.ranked.candidates, removed.tolist(), strict=True)
        ]

    def _plan(self, counts: Sequence[int]) -> tuple[Plan, Mask]:
        """Fill the slots of every candidate with the best, and a constant channel where needed."""
        spec, folding = self.spec, self.folding
        alive = np.ones(self._graph.size, bool)
        mean = []
        for candidate, count in zip(self.ranked.candidates, counts, strict=True):
            if count == candidate.family.slots:
                continue
            alive[candidate.ranked[:, count:]] = False
            if not folding.needs(candidate.family, alive):
                continue
            room = count > candidate.floor
            if room and not _mean_loses_less(candidate, count, alive, folding, self._deviation):
                alive[candidate.ranked[:, count - 1]] = False
            elif folding.mode == "auto":
                mean.append(candidate.family.name)
        chosen = tuple(mean) if folding.mode == "auto" else None
        plan = Plan.of(self._graph, alive, spec.strategy, spec.percent, chosen, spec.target)
        return plan, alive


def _rounded(family: Family, count: int, rounding: int | None) -> int:
    """The smallest count of slots from `count` whose channels are a multiple or a power of two."""
    if rounding is None or count == family.slots:
        return count
    for slots in range(count, family.slots):
        channels = slots * family.unit
        if rounding and channels % rounding == 0:
            return slots
        if not rounding and channels >= LEAST_POWER and channels & (channels - 1) == 0:
            return slots
    return family.slots


def _mean_loses_less(
    candidate: Candidate, count: int, alive: Mask, folding: Folding, deviation: Scores
) -> bool:
    """True where a narrow family does better with a real channel more and the mean fold."""
    if not folding.narrow(candidate.family, count):
        return False
    lost = candidate.ranked[:, count - 1]
    return folding.border_loss(candidate.family, alive) <= folding.channel_loss(lost, deviation)
