"""How far a cut goes: to a percent of the channels, or until it meets its targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from pruning.measure.costs import Estimate, Measure
from pruning.selection.schedule import Path, Step
from pruning.selection.wish import Wish
from pruning.targets import Target, parse_targets
from yolo.errors import PlanError

ROUNDS = 7  # of measuring a cut and searching again
# a cut that was measured is near enough from this share of its target on; the search aims between
NEAR, AIM = 0.9, 0.97


def turns_to_cut(path: Path, channels: int) -> int:
    """The turns after which about so many channels are gone.

    The slot that would pass the number goes where that comes nearer to it.
    """
    costs = np.array([c.family.cost for c in path.ranking.candidates], np.int64)[path.order]
    before = np.cumsum(costs) - costs
    too_far = np.flatnonzero(2 * (channels - before) < costs)
    return int(too_far[0]) if len(too_far) else len(path)


class Way(Protocol):
    """Cuts that go further turn by turn: a Path, or blocks that go one after the other."""

    wish: Wish

    def __len__(self) -> int: ...

    def at(self, turns: int) -> Step: ...

    @property
    def limit(self) -> str:
        """What stays at its end, in words."""
        ...


class Bound:
    """A target on a path: what is measured there, once a turn.

    Shares are of `whole`, by default of what is measured where nothing is cut. Of an Estimate
    `settled` is what was really measured.
    """

    def __init__(
        self, target: Target, measure: Measure, path: Way, whole: float | None = None
    ) -> None:
        self.target, self._measure, self._path = target, measure, path
        self._values: dict[int, float] = {}
        self.settled: dict[int, float] = {}
        self._whole = 1.0
        if target.share:
            self._whole = self.value(0) if whole is None else whole

    def value(self, turns: int) -> float:
        if turns in self.settled:
            return self.settled[turns]
        if turns not in self._values:
            step = self._path.at(turns)
            self._values[turns] = self._measure(step.plan, step.fold)
        return self._values[turns]

    @property
    def estimated(self) -> bool:
        return isinstance(self._measure, Estimate)

    @property
    def limit(self) -> float:
        """What the number may come to."""
        # 0.29 of 100 are 29, though 0.29 · 100 is a little less
        return self.target.limit * self._whole * (1 + 1e-12)

    def met(self, turns: int) -> bool:
        """Whether it comes to less; of an estimate to so much less that a measurement should."""
        guessed = self.estimated and turns not in self.settled
        return self.value(turns) <= self.limit * (AIM if guessed else 1)

    def settle(self, turns: int) -> None:
        """Measure there, which corrects what is estimated elsewhere."""
        assert isinstance(self._measure, Estimate)
        step = self._path.at(turns)
        self.settled[turns] = self._measure.settle(step.plan, step.fold)
        self._values.clear()

    def found(self, turns: int) -> str:
        """What it is there, for a message, so that it could be asked for."""
        value, name = self.value(turns), self.target.name
        if self.target.share:
            share = math.ceil(value / self._whole * 1000) / 1000
            return f"{name}={share:g} ({value} of {self._whole})"
        return f"{name}={value}" if isinstance(value, int) else f"{name}={value:.4g}"


def turns_to_meet(
    path: Way,
    target: str,
    measures: Mapping[str, Measure],
    wholes: Mapping[str, float] | None = None,
) -> int:
    """The turns of the least cut on the path that meets all targets, by bisection.

    Where all of them grow with the cut, of the largest one. A measure is asked about log2(turns)
    times, in the order of the targets, not where one before it isn't met; one that estimates is
    asked last, and what it says is measured before it counts (_settled). They are assumed to
    change in one direction along the path; where they don't, a turn less still doesn't do. `wholes`
    are what shares are of, where that isn't what the path begins with. Raises PlanError where no
    cut meets them.
    """
    falling: list[Bound] = []
    growing: list[Bound] = []
    for t in parse_targets(target):
        if t.name not in measures:
            raise PlanError(f"target {t}: there is nothing here that measures {t.name}")
        bound = Bound(t, measures[t.name], path, (wholes or {}).get(t.name))
        (growing if t.grows else falling).append(bound)
    estimated = [bound for bound in falling if bound.estimated]
    exact = [bound for bound in falling if not bound.estimated]
    turns = _first(lambda n: all(bound.met(n) for bound in exact), len(path))
    for bound in estimated:
        turns = turns if turns is None else _settled(bound, turns, len(path))
    if turns is None:
        asked, found = _missed(falling, len(path))
        raise PlanError(
            f"target {asked} is out of reach: {path.wish.strategy} leaves at least {found}, "
            f"{path.limit}"
        )
    asked, found = _missed(growing, turns)
    if asked:
        least = "".join(f" for {bound.target}" for bound in falling)
        raise PlanError(f"target {asked} is out of reach: the least cut{least} has {found}")
    if falling or not growing:
        return turns
    beyond = _first(lambda n: not all(bound.met(n) for bound in growing), len(path))
    return len(path) if beyond is None else beyond - 1


def _settled(bound: Bound, start: int, end: int) -> int | None:
    """The first turns from `start` on of which a measurement says that they meet an estimate.

    What is estimated says where to measure, and the measurement corrects what is estimated. Where
    none is near enough in a few rounds, it is the least cut that is known to fit, or else the
    nearest that exceeds the limit by little. None where the end of the path doesn't do.
    """
    found = bound.settled
    if bound.value(start) <= bound.limit:
        bound.settle(start)  # where that does nothing more has to go
    for _ in range(ROUNDS):
        turns = _first(bound.met, end, start)
        turns = end if turns is None else turns
        if turns in found:
            break
        bound.settle(turns)
        if found[turns] <= bound.limit and (turns == start or found[turns] >= NEAR * bound.limit):
            return turns
    if end not in found and not any(value <= bound.limit for value in found.values()):
        bound.settle(end)
    fitting = [turns for turns, value in found.items() if value <= bound.limit]
    nearest = min(found, key=lambda turns: found[turns])
    return min(fitting, default=nearest if found[nearest] <= bound.limit / NEAR else None)


def _first(holds: Callable[[int], bool], end: int, start: int = 0) -> int | None:
    """The first number from `start` to `end` from which on it holds; None where it never does."""
    if holds(start):
        return start
    if not holds(end):
        return None
    low, high = start, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _missed(bounds: list[Bound], turns: int) -> tuple[str, str]:
    """The targets that aren't met there, and what there is instead."""
    missed = [bound for bound in bounds if not bound.met(turns)]
    asked = ", ".join(str(bound.target) for bound in missed)
    return asked, ", ".join(bound.found(turns) for bound in missed)
