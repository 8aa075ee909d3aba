"""Outcomes of cuts, as a comparison keeps them."""

from __future__ import annotations

from dataclasses import replace

from pruning.measure.costs import Cost
from pruning.run.comparison import Combination, Outcome, ScoredCost

ORIGINAL = ScoredCost(Cost(100, 1000, 10000, 4000), "mAP at IoU 0.5", 0.8)


def outcome(strategy: str, target: str, score: float | None, **costs: int) -> Outcome:
    """A cut that was found; `costs` are those that differ from the original's."""
    scored = replace(ORIGINAL, cost=replace(ORIGINAL.cost, **costs), score=score)
    return Outcome(Combination(strategy, "bn", target, "fold"), f"{strategy} {target}", scored)


def missing(strategy: str, target: str) -> Outcome:
    """A cut that can't be made."""
    combination = Combination(strategy, "bn", target, "fold")
    return Outcome(combination, f"{strategy} {target}", None, "out of reach")
