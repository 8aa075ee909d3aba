"""Outcomes of cuts, as a comparison keeps them."""

from __future__ import annotations

from dataclasses import replace

from pruning.run.compare import Cut, Measured, Outcome

WHOLE = Measured(100, 1000, 10000, 4000, "mAP at IoU 0.5", 0.8)


# How it is read


def outcome(strategy: str, target: str, **found: object) -> Outcome:
    cut = Cut(strategy, "bn", target, "fold")
    measured = replace(WHOLE, **found) if found else None  # type: ignore[arg-type]
    return Outcome(cut, f"{strategy} {target}", measured, "" if found else "out of reach")
