"""A finished and proven cut, and the files that it fills."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pruning.bayesian.cut import BayesianCut
from pruning.cut.folding import Fold
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shorter
from pruning.graph.channels import ChannelGraph
from pruning.run.report import Report
from pruning.selection.ranking import Ranking
from yolo.files import Writer, content_writer, write_files
from yolo.models.weights import Header, weights_writer
from yolo.network import Network


@dataclass(frozen=True)
class Result:
    """A finished and proven cut.

    `plan` and `report` number sections as the given network does, `graph` and `fold` as what is
    left of it without blocks does. `ranking` is what was chosen from, where channels were ranked.
    """

    plan: Plan
    shorter: Shorter
    graph: ChannelGraph
    fold: Fold
    smaller: Network
    header: Header
    report: Report
    bayesian: BayesianCut | None = None
    ranking: Ranking | None = None

    def writers(self, folder: Path, stem: str) -> list[tuple[Path, Writer]]:
        """What writes STEM.cfg, .weights and .json."""
        report = self.report.to_json(result_files(folder, stem))
        return model_writers(folder, stem, self.smaller, self.header, report)

    def write(self, folder: Path, stem: str) -> dict[str, Path]:
        """Write STEM.cfg, .weights and .json, all or none; raises DarknetError."""
        write_files(self.writers(folder, stem))
        return result_files(folder, stem)


def model_writers(
    folder: Path, stem: str, network: Network, header: Header, report: str
) -> list[tuple[Path, Writer]]:
    """What writes a network and its report to result_files."""
    paths = result_files(folder, stem)
    return [
        (paths["cfg"], content_writer(network.cfg.to_bytes())),
        (paths["weights"], weights_writer(network, header)),
        (paths["json"], content_writer(report.encode())),
    ]


def result_files(folder: Path, stem: str) -> dict[str, Path]:
    """The paths of a result's cfg, weights and report."""
    return {kind: folder / f"{stem}.{kind}" for kind in ("cfg", "weights", "json")}
