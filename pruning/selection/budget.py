"""How far a cut goes: to a percent of the channels, or until it meets its targets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from pruning.measure.costs import Estimate, Measure
from pruning.selection.schedule import Schedule, Step
from pruning.spec import Spec, Target
from yolo.errors import PlanError

ROUNDS = 7  # of measuring a cut and searching again
# a cut that was measured is near enough from this share of its target on; the search aims between
NEAR, AIM = 0.9, 0.97


def steps_to_cut(schedule: Schedule, channels: int) -> int:
    """The steps after which about so many channels are gone.

    The slot that would pass the number goes where that comes nearer to it.
    """
    costs = np.array([c.family.cost for c in schedule.ranked.candidates], np.int64)[schedule.order]
    before = np.cumsum(costs) - costs
    too_far = np.flatnonzero(2 * (channels - before) < costs)
    return int(too_far[0]) if len(too_far) else len(schedule)


class Stepwise(Protocol):
    """Cuts that go further step by step: a Schedule, or blocks that go one after the other."""

    spec: Spec

    def __len__(self) -> int: ...

    def at(self, step: int) -> Step: ...

    @property
    def limit(self) -> str:
        """The limit at its end, in words."""
        ...


class Constraint:
    """A target on a schedule: its quantity at each step, computed once.

    Shares are of `original`, by default of the quantity where nothing is cut. Of an Estimate,
    `measured` holds the steps that were really measured.
    """

    def __init__(
        self, target: Target, measure: Measure, schedule: Stepwise, original: float | None = None
    ) -> None:
        self.target, self._measure, self._schedule = target, measure, schedule
        self._values: dict[int, float] = {}
        self.measured: dict[int, float] = {}
        self._original = 1.0
        if target.share:
            self._original = self.value(0) if original is None else original

    def value(self, steps: int) -> float:
        if steps in self.measured:
            return self.measured[steps]
        if steps not in self._values:
            step = self._schedule.at(steps)
            self._values[steps] = self._measure(step.plan, step.fold)
        return self._values[steps]

    @property
    def estimated(self) -> bool:
        return isinstance(self._measure, Estimate)

    @property
    def limit(self) -> float:
        """The largest value that meets the target."""
        # 0.29 of 100 are 29, though 0.29 · 100 is a little less
        return self.target.limit * self._original * (1 + 1e-12)

    def met(self, steps: int) -> bool:
        """True where the value is small enough; an estimate must leave a margin."""
        guessed = self.estimated and steps not in self.measured
        return self.value(steps) <= self.limit * (AIM if guessed else 1)

    def allows(self, step: Step) -> bool:
        """True for a cut that meets the target, be it on the schedule or beside it."""
        return self._measure(step.plan, step.fold) <= self.limit

    def measure(self, steps: int) -> None:
        """Measure there, which corrects the estimates elsewhere."""
        assert isinstance(self._measure, Estimate)
        step = self._schedule.at(steps)
        self.measured[steps] = self._measure.measure(step.plan, step.fold)
        self._values.clear()

    def text(self, steps: int) -> str:
        """Its value there, for a message, rounded so that it could be asked for."""
        value, name = self.value(steps), self.target.name
        if self.target.share:
            share = math.ceil(value / self._original * 1000) / 1000
            return f"{name}={share:g} ({value} of {self._original})"
        return f"{name}={value}" if isinstance(value, int) else f"{name}={value:.4g}"


def steps_to_meet(
    schedule: Stepwise,
    targets: Sequence[Target],
    measures: Mapping[str, Measure],
    originals: Mapping[str, float] | None = None,
) -> int:
    """The steps of the smallest cut on a schedule that meets all targets, by bisection.

    Where all of them grow with the cut, those of the largest one. A measure is called about
    log2(steps) times, in the order of the targets, and not where an earlier one isn't met; an
    Estimate is called last, and measured before it counts (_measured). Quantities are assumed to
    change in one direction along the schedule; where they don't, one step less doesn't meet the
    targets either. `originals` are what shares are of, where the schedule doesn't begin with the
    original. Raises PlanError where no cut meets them.
    """
    falling: list[Constraint] = []
    growing: list[Constraint] = []
    for t in targets:
        if t.name not in measures:
            raise PlanError(f"target {t}: {t.name} can't be measured here")
        constraint = Constraint(t, measures[t.name], schedule, (originals or {}).get(t.name))
        (growing if t.grows else falling).append(constraint)
    estimated = [constraint for constraint in falling if constraint.estimated]
    exact = [constraint for constraint in falling if not constraint.estimated]
    steps = _first(lambda n: all(constraint.met(n) for constraint in exact), len(schedule))
    for constraint in estimated:
        steps = steps if steps is None else _measured(constraint, steps, len(schedule))
    if steps is None:
        missed, values = _missed(falling, len(schedule))
        raise PlanError(
            f"target {missed} is out of reach: {schedule.spec.strategy} leaves at least {values}, "
            f"{schedule.limit}"
        )
    missed, values = _missed(growing, steps)
    if missed:
        least = "".join(f" for {constraint.target}" for constraint in falling)
        raise PlanError(f"target {missed} is out of reach: the least cut{least} has {values}")
    if falling or not growing:
        return steps
    beyond = _first(lambda n: not all(constraint.met(n) for constraint in growing), len(schedule))
    return len(schedule) if beyond is None else beyond - 1


def _measured(constraint: Constraint, start: int, end: int) -> int | None:
    """The first number of steps from `start` on whose measurement meets an estimated target.

    Estimates choose where to measure, and each measurement corrects them. Where none is near
    enough in a few rounds, it is the smallest cut that is known to fit, or else the nearest one
    that exceeds the limit by little. None where the end of the schedule doesn't fit.
    """
    values = constraint.measured
    if constraint.value(start) <= constraint.limit:
        constraint.measure(start)  # where that does nothing more has to go
    for _ in range(ROUNDS):
        steps = _first(constraint.met, end, start)
        steps = end if steps is None else steps
        if steps in values:
            break
        constraint.measure(steps)
        if values[steps] <= constraint.limit and (
            steps == start or values[steps] >= NEAR * constraint.limit
        ):
            return steps
    if end not in values and not any(value <= constraint.limit for value in values.values()):
        constraint.measure(end)
    fitting = [steps for steps, value in values.items() if value <= constraint.limit]
    nearest = min(values, key=lambda steps: values[steps])
    return min(fitting, default=nearest if values[nearest] <= constraint.limit / NEAR else None)


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


def _missed(constraints: list[Constraint], steps: int) -> tuple[str, str]:
    """The targets that aren't met there, and the values there."""
    missed = [constraint for constraint in constraints if not constraint.met(steps)]
    targets = ", ".join(str(constraint.target) for constraint in missed)
    return targets, ", ".join(constraint.text(steps) for constraint in missed)
