"""The report of a Bayesian cut, as data and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pruning.bayesian.cut import BayesianCut
from pruning.bayesian.precision import Compression
from yolo.evaluation.results import Evaluation
from yolo.layers.bayesian import bayesian_layers
from yolo.tables import table


@dataclass(frozen=True)
class GroupsChange:
    """The groups of one section: filters of a convolution, inputs of a connected section.

    `least` and `most` are the range of their log α (or negative log-mode), `note` says how the
    threshold was found.
    """

    index: int
    section: str
    before: int
    after: int
    least: float
    most: float
    threshold: float
    note: str


@dataclass(frozen=True)
class BayesianReport:
    """Groups and rates; `reduced` evaluates the compact network with rounded weights."""

    groups: Sequence[GroupsChange]
    rates: Compression
    reduced: Evaluation | None = None

    @classmethod
    def of(cls, cut: BayesianCut, reduced: Evaluation | None) -> BayesianReport:
        """That of a cut."""
        rows = []
        for i, layer in bayesian_layers(cut.network.layers).items():
            values, threshold = cut.log_alphas[i], cut.thresholds[i]
            assert layer.dropped is not None
            after = len(values) - int(layer.dropped.sum())
            rows.append(
                GroupsChange(
                    i,
                    layer.section.type,
                    len(values),
                    after,
                    float(values.min()),
                    float(values.max()),
                    threshold.value,
                    threshold.note,
                )
            )
        return cls(rows, cut.rates, reduced)

    def to_json(self) -> dict[str, object]:
        """An infinite threshold is None."""
        groups = [asdict(row) for row in self.groups]
        for row in groups:
            row["threshold"] = row["threshold"] if math.isfinite(row["threshold"]) else None
        score = {self.reduced.key: self.reduced.score} if self.reduced else None
        return {
            "groups": groups,
            **self.rates.to_json(),
            "reduced": score,
        }

    def tables(self) -> str:
        """The report as a person reads it."""
        rows = [["index", "section", "groups", "left", "from", "to", "threshold", ""]]
        for row in self.groups:
            limit = f"{row.threshold:.2f}" if math.isfinite(row.threshold) else "-"
            counts = f"{row.before:,}", f"{row.after:,}"
            ends = f"{row.least:.1f}", f"{row.most:.1f}"
            rows.append([str(row.index), row.section, *counts, *ends, limit, row.note])
        groups = table(
            rows,
            "groups: filters or inputs, by their log α (ghs: negative log-mode)",
            (0, 2, 3, 4, 5, 6),
        )
        lines = [groups, self.rates.table()]
        if self.reduced:
            score = self.reduced
            lines.append(f"{score.score_name} with reduced precision: {score.score:.4f}")
        return "\n".join(lines)
