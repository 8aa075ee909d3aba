"""How far a cut goes: to a percent of the channels, or until it meets its targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from pruning.costs import Measure
from pruning.strategies.path import Path
from pruning.targets import Target, parse_targets
from yolo.errors import PlanError


def turns_to_cut(path: Path, channels: int) -> int:
    """The turns after which about so many channels are gone.

    The slot that would pass the number goes where that comes nearer to it.
    """
    costs = np.array([c.family.cost for c in path.ranking.candidates], np.int64)[path.order]
    before = np.cumsum(costs) - costs
    too_far = np.flatnonzero(2 * (channels - before) < costs)
    return int(too_far[0]) if len(too_far) else len(path)


class Bound:
    """A target on a path: what is measured there, once a turn."""

    def __init__(self, target: Target, measure: Measure, path: Path) -> None:
        self.target, self._measure, self._path = target, measure, path
        self._values: dict[int, float] = {}
        self._whole = self.value(0) if target.share else 1

    def value(self, turns: int) -> float:
        if turns not in self._values:
            step = self._path.at(turns)
            self._values[turns] = self._measure(step.plan, step.fold)
        return self._values[turns]

    def met(self, turns: int) -> bool:
        # 0.29 of 100 are 29, though 0.29 · 100 is a little less
        return self.value(turns) <= self.target.limit * self._whole * (1 + 1e-12)

    def found(self, turns: int) -> str:
        """What it is there, for a message, so that it could be asked for."""
        value, name = self.value(turns), self.target.name
        if self.target.share:
            share = math.ceil(value / self._whole * 1000) / 1000
            return f"{name}={share:g} ({value} of {self._whole})"
        return f"{name}={value}" if isinstance(value, int) else f"{name}={value:.4g}"


def turns_to_meet(path: Path, target: str, measures: Mapping[str, Measure]) -> int:
    """The turns of the least cut on the path that meets all targets, by bisection.

    Where all of them grow with the cut, of the largest one. A measure is asked about log2(turns)
    times, in the order of the targets, not where one before it isn't met. They are assumed to
    change in one direction along the path; where they don't, a turn less still doesn't do. Raises
    PlanError where no cut meets them.
    """
    falling: list[Bound] = []
    growing: list[Bound] = []
    for t in parse_targets(target):
        if t.name not in measures:
            raise PlanError(f"target {t}: there is nothing here that measures {t.name}")
        (growing if t.grows else falling).append(Bound(t, measures[t.name], path))
    turns = _first(lambda n: all(bound.met(n) for bound in falling), len(path))
    if turns is None:
        asked, found = _missed(falling, len(path))
        raise PlanError(
            f"target {asked} is out of reach: {path.wish.strategy} leaves at least {found}, "
            f"keeping at least {path.wish.kept}"
        )
    asked, found = _missed(growing, turns)
    if asked:
        least = "".join(f" for {bound.target}" for bound in falling)
        raise PlanError(f"target {asked} is out of reach: the least cut{least} has {found}")
    if falling or not growing:
        return turns
    beyond = _first(lambda n: not all(bound.met(n) for bound in growing), len(path))
    return len(path) if beyond is None else beyond - 1


def _first(holds: Callable[[int], bool], end: int) -> int | None:
    """The first number up to `end` from which on it holds; None where it doesn't at the end."""
    if holds(0):
        return 0
    if not holds(end):
        return None
    low, high = 0, end
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _missed(bounds: list[Bound], turns: int) -> tuple[str, str]:
    """The targets that aren't met there, and what there is instead."""
    missed = [bound for bound in bounds if not bound.met(turns)]
    asked = ", ".join(str(bound.target) for bound in missed)
    return asked, ", ".join(bound.found(turns) for bound in missed)
