"""Sparsity for the training loop: the pull after every step, the look after every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from pruning.graph.channels import ChannelGraph
from pruning.sparse.figures import gamma_history
from pruning.sparse.penalty import Penalty, SparsityProgress, look, strength
from pruning.spec import Percent, Spec
from yolo.figures import png
from yolo.files import Writer, content_writer
from yolo.network import Network
from yolo.registry import Entry
from yolo.training.records import Row


class SparseTraining:
    """A trainer's sparsity and observer in one.

    `images` (N, C, H, W) in [0, 1] show what a cut would change. Raises PlanError where the
    strategy finds nothing with a scale.
    """

    def __init__(
        self, network: Network, strategy: str, s: float, schedule: Entry, images: Tensor
    ) -> None:
        self.spec = Spec(strategy, Percent(0.0))
        self.penalty = Penalty.of(ChannelGraph(network), self.spec)
        self.s, self.schedule, self.images = s, schedule, images
        self.gammas: list[Tensor] = []
        self.last: SparsityProgress | None = None

    def shrink(self, network: Network, size: float, progress: float) -> None:
        """The proximal step of size · s; `progress` in [0, 1) is the share of the training done."""
        sizes = partial(self.penalty.sizes, network)
        amount = strength(self.schedule, self.s, progress, 1, sizes)
        self.penalty.shrink(network, size * amount)

    def value(self, network: Network) -> float:
        return self.penalty.value(network)

    def look(self, network: Network) -> Row:
        """How far it is, after an epoch; `line` says it in words."""
        self.last = look(network, self.penalty, self.spec, self.images)
        self.gammas.append(self.penalty.gammas(network).cpu())
        return {"small": self.last.small, "percent": self.last.percent}

    def line(self) -> str:
        """The latest progress in words."""
        return self.last.line() if self.last else ""

    def writers(self, folder: Path) -> Sequence[tuple[Path, Writer]]:
        """gammas.png: the distribution of |γ| over the epochs."""
        picture = png(gamma_history([gammas.numpy() for gammas in self.gammas]))
        return [(folder / "gammas.png", content_writer(picture))]

    def state(self) -> list[Tensor]:
        return self.gammas

    def restore(self, state: list[Tensor]) -> None:
        self.gammas = list(state)
