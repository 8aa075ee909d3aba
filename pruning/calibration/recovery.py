"""Recovery from a cut with images, and its gain on images that took no part in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pruning.calibration.images import split
from pruning.calibration.reconstruct import reconstruct
from pruning.cut.folding import Fold
from pruning.cut.shortened import Shortened
from pruning.graph.channels import ChannelGraph
from pruning.measure.head_error import batches, head_error
from yolo.network import Network
from yolo.registry import Entry


@dataclass(frozen=True)
class Recovered:
    """The error of the heads' inputs against the original's, before and after.

    Errors are relative L2 over `held_out` images, which calibrated nothing. Where there is no
    gain, nothing is changed: `kept` is False.
    """

    method: str
    images: int
    held_out: int
    before: float
    after: float
    seconds: float

    @property
    def kept(self) -> bool:
        return self.after < self.before

    def __str__(self) -> str:
        change = f"{self.before:.3f} to {self.after:.3f}"
        verdict = "" if self.kept else "; not better, so the fold stays"
        return (
            f"{self.method}: {self.images} images, {self.seconds:.0f} s; error of what enters the "
            f"heads, on {self.held_out} other images: {change}{verdict}"
        )

    def to_json(self) -> dict[str, object]:
        return {**vars(self), "kept": self.kept}


def recover(
    recovery: Entry,
    graph: ChannelGraph,
    fold: Fold,
    compact: Network,
    images: Tensor,
    progress: Callable[[int], object] = lambda section: None,
    shortened: Shortened | None = None,
) -> tuple[Network, Recovered]:
    """The compact network of a fold, recovered, and the gain.

    `recovery` is one of registry.RECOVERIES that needs images, `images` are (N, C, H, W) in [0, 1].
    Where the graph's network lacks blocks already, `shortened` has the original, with which both
    are compared then.
    """
    shortened = shortened or Shortened.of(graph.network)
    train, held_out = split(images)
    start = time.perf_counter()
    state = reconstruct(recovery.load(), graph, fold, compact, batches(train), progress, shortened)
    seconds = time.perf_counter() - start
    better = Network.with_state(compact.cfg, state)
    before, after = (
        head_error(shortened.original, net, held_out, shortened.index_map)
        for net in (compact, better)
    )
    recovered = Recovered(recovery.name, len(train), len(held_out), before, after, seconds)
    return (better if recovered.kept else compact), recovered
