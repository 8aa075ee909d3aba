"""How far a Bayesian training has come, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pruning.bayesian.cut import BayesianCut, wanted_of
from pruning.bayesian.figures import overview
from pruning.bayesian.precision import Compression
from pruning.graph.channels import ChannelGraph
from pruning.spec import Limits, Thresholds
from yolo.figures import png
from yolo.files import Writer, content_writer
from yolo.network import Network
from yolo.training.records import Row

AUTO = Thresholds()


@dataclass(frozen=True)
class BayesianProgress:
    """Groups that the thresholds would leave now in every Bayesian section, and the rates."""

    groups: Sequence[tuple[int, int]]
    rates: Compression

    def line(self) -> str:
        """One line for the progress output."""
        kept = " ".join(f"{after}/{before}" for before, after in self.groups)
        rates = self.rates.weights
        return (
            f"groups {kept}; {rates.architecture:.3g} times smaller, {rates.fast:.3g} with "
            f"reduced precision, {rates.maximum:.3g} with entropy coding, too"
        )


class BayesianTraining:
    """A trainer's observer; raises PlanError where no section is Bayesian."""

    def __init__(self, network: Network, thresholds: Thresholds = AUTO) -> None:
        self.wanted = wanted_of(network, thresholds)
        self.graph = ChannelGraph(network)
        self.last: BayesianProgress | None = None
        self._cut: BayesianCut | None = None

    def look(self, network: Network) -> Row:
        """The rates of all weights (precision.Rates), after an epoch; `line` says more."""
        cut = self._cut = BayesianCut.at(network, self.graph, self.wanted, Limits())
        groups = [
            (len(values), int((values < cut.thresholds[i].value).sum()))
            for i, values in cut.log_alphas.items()
        ]
        self.last = BayesianProgress(groups, cut.rates)
        rates = cut.rates.weights
        return {"architecture": rates.architecture, "fast": rates.fast, "maximum": rates.maximum}

    def line(self) -> str:
        """The latest progress in words."""
        return self.last.line() if self.last else ""

    def writers(self, folder: Path) -> Sequence[tuple[Path, Writer]]:
        """groups.png: the distribution of log α of the groups in every section."""
        if self._cut is None:
            return []
        picture = png(overview(self._cut.panels()))
        return [(folder / "groups.png", content_writer(picture))]

    def state(self) -> None:
        """Nothing that a break could lose."""

    def restore(self, state: object) -> None:
        """Nothing to go on with."""
