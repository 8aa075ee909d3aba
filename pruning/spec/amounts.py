"""How far a cut goes: a percent, targets, blocks, thresholds, or a saved plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruning.spec.targets import Targets
from yolo.errors import PlanError

if TYPE_CHECKING:  # it needs torch, and a wrong option is refused before that is imported
    from pruning.cut.plan import Plan

AUTO = "auto"


@dataclass(frozen=True)
class Percent:
    """A share, in [0, 1), of the channels that a strategy may cut."""

    share: float
    kind = "percent"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise PlanError(f"percent {self.share:g}: expected at least 0 and less than 1")

    def __str__(self) -> str:
        return f"{self.share:g}"


@dataclass(frozen=True)
class Blocks:
    """A number of whole residual blocks, and then channels of what is left."""

    count: int
    then: Percent | Targets | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise PlanError(f"blocks {self.count}: expected at least 1")

    @property
    def kind(self) -> str:
        return f"blocks and {self.then.kind}" if self.then else "blocks"

    def __str__(self) -> str:
        return f"{self.count}-{self.then}" if self.then else str(self.count)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds on log α: one for all Bayesian sections, or one for each; None is `auto`.

    `reduced`: what stays is written in reduced precision.
    """

    values: tuple[float | None, ...] = (None,)
    reduced: bool = False
    kind = "thresholds"

    @classmethod
    def parse(cls, text: str, reduced: bool = False) -> Thresholds:
        """auto, a number, or one for each section as in -3,-5,auto; `inf` keeps all."""
        return cls(tuple(map(_threshold, text.split(","))), reduced)

    def __str__(self) -> str:
        return ",".join(AUTO if value is None else f"{value:g}" for value in self.values)


@dataclass(frozen=True)
class Saved:
    """The cut of a saved plan."""

    plan: Plan
    kind = "plan"

    def __str__(self) -> str:
        return "plan"


Amount = Percent | Targets | Blocks | Thresholds | Saved


def _threshold(text: str) -> float | None:
    if text.strip() == AUTO:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > -math.inf:
        raise PlanError(f"thresholds: {text!r}: expected auto, a number or inf")
    return value
