"""The user's request: a Spec, parsed and checked once."""

from pruning.spec.amounts import Amount, Blocks, Percent, Saved, Thresholds
from pruning.spec.spec import (
    Limits,
    Ranking,
    Spec,
    check_name,
    default_recovery,
    default_rounding,
)
from pruning.spec.targets import COUNTED, KINDS, Target, Targets

__all__ = [
    "COUNTED",
    "KINDS",
    "Amount",
    "Blocks",
    "Limits",
    "Percent",
    "Ranking",
    "Saved",
    "Spec",
    "Target",
    "Targets",
    "Thresholds",
    "check_name",
    "default_recovery",
    "default_rounding",
]
