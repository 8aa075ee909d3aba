"""The strategies: which families each of them may cut."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pruning.channels import ChannelGraph, Family
from yolo.errors import PlanError

Candidates = Callable[[ChannelGraph], list[Family]]


@dataclass(frozen=True)
class Strategy:
    """A name (pruning/options.py says it in words), the families that may be cut, and a rounding.

    `rounding` is a multiple, 0 for powers of two, None for none.
    """

    name: str
    candidates: Candidates
    rounding: int | None = None


def _everything(graph: ChannelGraph) -> list[Family]:
    return list(graph.families)


def _normal(graph: ChannelGraph) -> list[Family]:
    """Families that no shortcut touches and that don't feed an upsample (Lam1360's rule)."""
    touched = graph.touched("shortcut", "upsample")
    return [family for family in graph.families if not touched[family.groups].any()]


def _tiny(graph: ChannelGraph) -> list[Family]:
    for layer in graph.network.layers:
        if layer.section.type == "shortcut":
            message = "strategy tiny is for networks without shortcuts: use normal or shortcut"
            raise PlanError(str(layer.section.error(message)))
    return _normal(graph)


_KNOWN = (
    Strategy("normal", _normal),
    Strategy("regular", _normal, rounding=0),
    Strategy("shortcut", _everything),
    Strategy("tiny", _tiny),
)
STRATEGIES = {strategy.name: strategy for strategy in _KNOWN}


def touched_sections(graph: ChannelGraph, sections: tuple[int, ...]) -> np.ndarray:
    """The groups that have a channel in any of these sections' outputs."""
    found = np.zeros(graph.size, bool)
    for section in sections:
        found[graph.outputs[section]] = True
    return found
