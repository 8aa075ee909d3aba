"""The strategies: which families each of them may cut."""

from collections.abc import Callable
from dataclasses import dataclass

from pruning.graph.channels import ChannelGraph, Family
from yolo.errors import PlanError

Candidates = Callable[[ChannelGraph], list[Family]]


@dataclass(frozen=True)
class Strategy:
    """A name (pruning/options.py says it in words), the families that may be cut, and defaults.

    `rounding` is a multiple, 0 for powers of two, None for none; `layer_keep` the share of its
    channels that every family keeps.
    """

    name: str
    candidates: Candidates
    rounding: int | None = None
    group: str = "first"
    layer_keep: float = 0.0


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
    # slim_prune.py of tanluren/yolov3-channel-and-layer-pruning, for all that couples channels
    Strategy("slim", _everything, group="union", layer_keep=0.01),
)
STRATEGIES = {strategy.name: strategy for strategy in _KNOWN}
