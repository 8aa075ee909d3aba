"""What a Bayesian training has reached: the look after every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pruning.bayesian.cut import Excess, drop, excesses, panels, posteriors, undrop
from pruning.bayesian.figures import overview
from pruning.bayesian.precision import Compression, compression
from pruning.bayesian.thresholds import choose, parse
from pruning.channels import ChannelGraph
from yolo.files import Writer
from yolo.network import Network
from yolo.png import png
from yolo.training.records import Row


@dataclass(frozen=True)
class Look:
    """What the thresholds would leave now: groups of every Bayesian section, and the rates."""

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

    def __init__(self, network: Network, thresholds: str = "auto") -> None:
        sections = {i: network.cfg.layers[i] for i in excesses(network)}
        self.wanted = parse(thresholds, sections)
        self.graph = ChannelGraph(network)
        self.last: Look | None = None
        self._excess: Excess = {}

    def look(self, network: Network) -> Row:
        """How far it is, after an epoch; `last` is that in words."""
        self._excess = excesses(network)
        chosen = choose(self._excess, self.wanted)
        alive = drop(network, self.graph, self._excess, chosen)
        rates = compression(posteriors(network, self.graph, alive))
        undrop(network)
        groups = [
            (len(values), int((values < chosen[i].value).sum()))
            for i, values in self._excess.items()
        ]
        self.last = Look(groups, rates)
        found = rates.weights
        return {"rate": found.architecture, "fast": found.fast, "maximum": found.maximum}

    def writers(self, folder: Path) -> Sequence[tuple[Path, Writer]]:
        """groups.png: the distribution of the groups' excess in every section."""
        if not self._excess:
            return []
        chosen = choose(self._excess, self.wanted)
        picture = png(overview(panels(self.graph.network, self._excess, chosen)))
        return [(folder / "groups.png", lambda file: file.write(picture))]

    def state(self) -> None:
        """Nothing that a break could lose."""

    def restore(self, state: object) -> None:
        """Nothing to go on with."""
