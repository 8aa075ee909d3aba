"""Widths in steps: whole steps of a family go at once, first where least is lost for what is saved.

Engines compute channels in blocks, so that a width between two blocks costs what the next one does,
or more. Here such widths aren't rounded behind the search: they are no choice in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from pruning.cut.folding import Folding
from pruning.graph.rules.coupling import Ids
from pruning.measure.savings import Savings, SectionRates
from pruning.registry import COMPARISONS
from pruning.selection.importance import Model, Scores
from pruning.selection.ranking import Candidate, Ranked
from pruning.selection.schedule import Schedule
from pruning.spec import Spec

LEAST = 1e-30  # what is saved at least, so that it can be divided by


class SteppedSchedule(Schedule):
    """A Schedule of moves, each of which takes one family down to its next width.

    Widths are multiples of `width_step`, constant channels among them. When no family has a smaller
    one left, all go on in halves of the step, which may save no time, but memory.
    """

    def __init__(
        self, model: Model, spec: Spec, folding: Folding, width_step: int, rates: SectionRates
    ) -> None:
        """`rates` say what is saved. Raises PlanError for a spec that names what isn't there."""
        super().__init__(model, spec, folding)
        candidates = self.ranked.candidates
        forms = COMPARISONS[spec.ranking.compare].load()(model, candidates)
        numbers = {form: n for n, form in enumerate(dict.fromkeys(forms))}
        sets = np.array([numbers[form] for form in forms], np.int64)
        savings = Savings(model.graph, [c.family for c in candidates], rates)
        self._descent = _Descent(self.ranked, sets, savings)
        self._way = list(self._descent.way(width_step))

    def __len__(self) -> int:
        return len(self._way) - 1

    def left(self, step: int) -> Ids:
        """The slots of every candidate (candidates,) after so many steps."""
        return self._way[step][0]

    def moves(self, step: int, left: Ids, barred: Collection[int]) -> Iterator[Ids]:
        """Cuts that go on from one near a step, move by move, without some of the candidates."""
        return self._descent.moves(left, self._way[step][1], barred)

    def regained(self, step: int, left: Ids, closed: Collection[int]) -> tuple[int, int] | None:
        """The candidate that regains most by its next larger width, and this in slots.

        Near a step, and none of those that are closed; None where all are whole.
        """
        return self._descent.regained(left, self._way[step][1], closed)

    def loss(self, left: Ids) -> float:
        """The loss where so many slots are left, by the scores."""
        candidates = self.ranked.candidates
        return sum(float(c.losses[n:].sum()) for c, n in zip(candidates, left, strict=True))

    def _counts(self, step: int) -> list[int]:
        return self.left(step).tolist()


class _Descent:
    """The way down: of all families, the one goes next that loses least for what it saves.

    That is its loss over its saving, all families as they are by then; where scores aren't compared
    by what is saved (Ranking.per_mac), the mean score of what goes. Of `sets` (candidates,) of
    families that aren't compared with each other, the one goes next that has lost least of its
    channels.
    """

    def __init__(self, ranked: Ranked, sets: Ids, savings: Savings) -> None:
        self._ranked, self._sets, self._savings = ranked, sets, savings
        self._cost = np.array([c.family.cost for c in ranked.candidates], np.int64)
        self._slots = np.array([c.family.slots for c in ranked.candidates], np.int64)
        self._pools = np.bincount(sets, self._cost * self._slots)

    def way(self, width_step: int) -> Iterator[tuple[Ids, int]]:
        """The slots that every candidate keeps, move by move, and the step of widths there."""
        left = self._slots
        yield left, width_step
        while width_step:
            for after in self.moves(left, width_step):
                left = after
                yield left, width_step
            width_step //= 2

    def regained(
        self, left: Ids, width_step: int, closed: Collection[int]
    ) -> tuple[int, int] | None:
        """See SteppedSchedule.regained."""
        candidates = self._ranked.candidates
        pairs = zip(candidates, left.tolist(), strict=True)
        above = np.array([_above(c, n, width_step) for c, n in pairs])
        above[list(closed)] = left[list(closed)]
        if not (above > left).any():
            return None
        lost = np.array([self._lost(n, above, left) for n in range(len(candidates))])
        if self._ranked.per_mac:
            lost = lost / np.maximum(self._savings.of(above, above - left), LEAST)
        number = int(np.where(above > left, lost, -np.inf).argmax())
        return number, int(above[number])

    def moves(self, left: Ids, width_step: int, barred: Collection[int] = ()) -> Iterator[Ids]:
        """The slots that are left after each move; those barred keep theirs."""
        candidates = self._ranked.candidates
        pairs = zip(candidates, left.tolist(), strict=True)
        below = np.array([_below(c, n, width_step) for c, n in pairs])
        below[list(barred)] = left[list(barred)]
        lost = np.array([self._lost(n, left, below) for n in range(len(candidates))])
        while (below < left).any():
            chosen = self._next(left, below, lost)
            left, below, lost = left.copy(), below.copy(), lost.copy()
            left[chosen] = below[chosen]
            below[chosen] = _below(candidates[chosen], int(left[chosen]), width_step)
            lost[chosen] = self._lost(chosen, left, below)
            yield left

    def _lost(self, number: int, left: Ids, below: Ids) -> float:
        """The loss of a candidate's move."""
        candidate = self._ranked.candidates[number]
        scores = candidate.losses if self._ranked.per_mac else candidate.scores
        going = scores[below[number] : left[number]]
        total = float(going.sum())
        return total if self._ranked.per_mac else total / max(len(going), 1)

    def _next(self, left: Ids, below: Ids, lost: Scores) -> int:
        gone = left - below
        if self._ranked.per_mac:
            lost = lost / np.maximum(self._savings.of(left, gone), LEAST)
        lost = np.where(gone > 0, lost, np.inf)
        best = [self._cheapest(lost, gone, number) for number in range(len(self._pools))]
        taken = np.bincount(self._sets, self._cost * (self._slots - left))
        choices = np.array([n for n in best if n is not None])
        sets = self._sets[choices]
        after = taken[sets] + self._cost[choices] * gone[choices] / 2
        return int(choices[(after / self._pools[sets]).argmin()])

    def _cheapest(self, lost: Scores, gone: Ids, number: int) -> int | None:
        """The candidate of a set whose move costs least; None where none can move."""
        mine = np.flatnonzero((self._sets == number) & (gone > 0))
        return int(mine[lost[mine].argmin()]) if len(mine) else None


def _above(candidate: Candidate, count: int, width_step: int) -> int:
    """The next larger number of slots whose channels are a multiple of the step, or all."""
    unit, slots = candidate.family.unit, candidate.family.slots
    return next((n for n in range(count + 1, slots) if n * unit % width_step == 0), slots)


def _below(candidate: Candidate, count: int, width_step: int) -> int:
    """The next smaller number of slots whose channels are a multiple of the step, or the same."""
    unit = candidate.family.unit
    return next(
        (n for n in range(count - 1, candidate.least - 1, -1) if n * unit % width_step == 0), count
    )
