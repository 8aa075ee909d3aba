"""The best cut that widths in steps leave near a budget.

A move of a schedule of such widths may save much more than is needed. What is left over then is
given back where it helps most, or other families go in place of the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from pruning.graph.rules.coupling import Ids
from pruning.measure.costs import Measure
from pruning.selection.budget import Constraint
from pruning.selection.schedule import Step
from pruning.selection.stepped import SteppedSchedule
from pruning.spec import Target

TRIES = 5  # cuts that meet the budget, the first of them on the schedule


def refined(
    schedule: SteppedSchedule,
    steps: int,
    targets: Sequence[Target],
    measures: Mapping[str, Measure],
    originals: Mapping[str, float] | None = None,
) -> Step:
    """The cut that loses least of those near the first that meets the targets (steps_to_meet).

    It is that one where targets are estimated, or grow with the cut.
    """
    constraints = [
        Constraint(target, measures[target.name], schedule, (originals or {}).get(target.name))
        for target in targets
    ]
    if not steps or any(c.estimated or c.target.grows for c in constraints):
        return schedule.at(steps)

    def allowed(left: Ids) -> bool:
        step = schedule.cut(left.tolist())
        return all(constraint.allows(step) for constraint in constraints)

    found = [_filled(schedule, steps, left, allowed) for left in _near(schedule, steps, allowed)]
    return schedule.cut(min(found, key=schedule.loss).tolist())


def _near(schedule: SteppedSchedule, steps: int, allowed: Callable[[Ids], bool]) -> Iterator[Ids]:
    """Cuts that are allowed, each without the family whose move ended the one before."""
    left, after = schedule.left(steps - 1), schedule.left(steps)
    barred: set[int] = set()
    for _ in range(TRIES):
        yield after
        barred.add(int((left != after).argmax()))
        for after in schedule.moves(steps, left, barred):
            if allowed(after):
                break
            left = after
        else:
            return


def _filled(
    schedule: SteppedSchedule, steps: int, left: Ids, allowed: Callable[[Ids], bool]
) -> Ids:
    """With the widths that are still allowed, first those that regain most for what they cost."""
    closed: set[int] = set()
    while (chosen := schedule.regained(steps, left, closed)) is not None:
        number, slots = chosen
        wider = left.copy()
        wider[number] = slots
        if allowed(wider):
            left = wider
        else:
            closed.add(number)
    return left
