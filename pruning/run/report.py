"""The report of a cut, as data and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from pruning.bayesian.report import BayesianReport
from pruning.calibration.recovery import Recovered
from pruning.cut.folding import Fold
from pruning.cut.shortened import Shortened
from pruning.cut.surgery import compact_network
from pruning.graph.channels import ChannelGraph
from pruning.graph.rules import has_filters
from pruning.measure.latency import (
    SectionTimes,
    section_times,
)
from pruning.measure.width_step import UNKNOWN
from pruning.proof.verify import Proof
from pruning.registry import AUTO, ENGINES
from pruning.run.measured import Measured, both_measured, slower
from pruning.run.verdict import Verdict, verdict
from pruning.selection.blocks import block_scores, spec_without_blocks
from pruning.selection.families import prunable
from pruning.session import Cut, Inputs, Session
from yolo.models.load import is_random
from yolo.network import Network
from yolo.records import record
from yolo.tables import table

KIND, SCHEMA = "report of a cut", 2
BLOCK_HEADER = "shortcut", "its sections", "skip", "score", "parameters", "MACs", "stays"


@dataclass(frozen=True)
class LayerChange:
    """One section with filters, before and after; `constants` says how those it lost are kept."""

    index: int
    section: str
    before: int
    after: int
    constants: str


@dataclass(frozen=True)
class BlockChange:
    """A residual block that is gone: its [shortcut] and all sections that only it needed.

    Its `skip` stands in its place; where the shortcut itself does something with that, a depthwise
    [convolutional] `stays` to do it. `score` is that of blocks.block_scores, None where it is
    not known; parameters and MACs are those of its sections.
    """

    shortcut: int
    skip: int
    sections: tuple[int, ...]
    stays: bool
    score: float | None
    parameters: int
    macs: int

    def to_json(self) -> dict[str, object]:
        return {**vars(self), "sections": list(self.sections)}


@dataclass(frozen=True)
class Report:
    """All that is known of one cut.

    `in_question` counts the channels that `percent` is a share of, before and after: those of what
    is left without `blocks`. `percent` is None where a `target` was asked for.
    """

    cfg: str
    weights: str
    strategy: str
    percent: float | None
    fold: str
    in_question: tuple[int, int] | None
    before: Measured
    after: Measured
    proof: Proof
    layers: Sequence[LayerChange]
    bayesian: BayesianReport | None = None
    target: str | None = None
    recovery: Recovered | None = None
    blocks: Sequence[BlockChange] = ()
    times: SectionTimes | None = None
    verdict: Verdict | None = None
    width_steps: Mapping[str, int] | None = None

    @property
    def warnings(self) -> list[str]:
        """The reasons why this may not be wanted."""
        return slower(self.before, self.after)

    @property
    def asked(self) -> str:
        """How far the cut was to go, for a title."""
        parts = [counted(len(self.blocks), "block")] if self.blocks else []
        if self.target is not None:
            return ", ".join([*parts, self.target])
        percent = [f"percent {self.percent:g}"] if self.percent or not parts else []
        return ", ".join([*parts, *percent])

    @property
    def reached(self) -> float | None:
        """The percent that was cut in the end; constant channels count as kept."""
        return 1 - self.in_question[1] / max(self.in_question[0], 1) if self.in_question else None

    def to_json(self, files: Mapping[str, Path]) -> str:
        """`files` names the written `cfg` and `weights`."""
        data: dict[str, object] = {
            **({"warnings": self.warnings} if self.warnings else {}),
            "cfg": self.cfg,
            "weights": self.weights,
            "strategy": self.strategy,
            "percent": self.percent,
            "reached": self.reached,
            "fold": self.fold,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "proof": {
                **{name: difference.value for name, difference in self.proof.all.items()},
                "notes": {
                    name: difference.note
                    for name, difference in self.proof.all.items()
                    if difference.note
                },
            },
            "layers": [asdict(layer) for layer in self.layers],
            "files": {kind: str(files[kind]) for kind in ("cfg", "weights")},
        }
        if self.target is not None:
            data["target"] = self.target
        if self.width_steps is not None:
            data["width_steps"] = dict(self.width_steps)
        if self.blocks:
            data["blocks"] = [block.to_json() for block in self.blocks]
        if self.times:
            data["sections_ms"] = self.times.to_json()
        if self.recovery:
            data["recovery"] = self.recovery.to_json()
        if self.bayesian:
            data["bayesian"] = self.bayesian.to_json()
        if self.verdict:
            data["verdict"] = self.verdict.to_json()
        return record(KIND, SCHEMA, data)

    def tables(self, proof: bool = True) -> str:
        """The report as a person reads it."""
        tables = [self._layer_table(), self._cost_table()]
        if self.blocks:
            tables[:1] = [self._block_table(), *(tables[:1] if self.layers else [])]
        if self.bayesian:
            tables.insert(0, self.bayesian.tables())
        if self.recovery:
            tables.append(str(self.recovery))
        if proof:
            tables.append(self._proof_table())
        warnings = [f"warning: {text}" for text in self.warnings]
        return "\n".join([*warnings, *tables, *([self.verdict.text] if self.verdict else [])])

    def _layer_table(self) -> str:
        if not self.layers:
            return "Nothing is cut."
        rows = [["index", "section", "before", "after", "constants"]]
        for layer in self.layers:
            counts = str(layer.before), str(layer.after)
            rows.append([str(layer.index), layer.section, *counts, layer.constants])
        found = table(rows, "channels of every section that is cut", numbers=(0, 2, 3))
        return found if self.width_steps is None else f"{found}\n{suited(self.width_steps)}"

    def block_rows(self) -> list[list[str]]:
        """The blocks that are gone, in the columns of BLOCK_HEADER."""
        rows = []
        for block in self.blocks:
            score = "-" if block.score is None else f"{block.score:.3g}"
            spent = f"{block.parameters:,}", f"{block.macs:,}"
            replacement = "a depthwise 1x1" if block.stays else ""
            where = str(block.shortcut), _ranges(block.sections), str(block.skip)
            rows.append([*where, score, *spent, replacement])
        return rows

    def _block_table(self) -> str:
        rows = [list(BLOCK_HEADER), *self.block_rows()]
        return table(rows, "blocks that are gone", numbers=(0, 2, 3, 4, 5))

    def cost_rows(self) -> list[list[str]]:
        """What the network costs and how good it is: name, before, after, share that is left."""
        b, a = self.before, self.after
        rows = []
        pool = (("channels that may go", *self.in_question),) if self.in_question else ()
        for name, x, y in (
            *pool,
            ("all channels", b.cost.channels, a.cost.channels),
            ("parameters", b.cost.parameters, a.cost.parameters),
            ("MACs", b.cost.macs, a.cost.macs),
            ("MACs as thop counts", b.macs_thop, a.macs_thop),
            ("bytes of weights", b.cost.bytes, a.cost.bytes),
        ):
            rows.append([name, f"{x:,}", f"{y:,}", f"{y / max(x, 1):.1%}"])
        for name, slow in b.ms.items():
            fast = a.ms[name]
            if slow is not None and fast is not None:
                rows.append([f"ms in {name}", f"{slow:.1f}", f"{fast:.1f}", f"{fast / slow:.1%}"])
        if b.score and a.score:
            before, after = b.score.value, a.score.value
            share = f"{after / before:.1%}" if before else "-"
            rows.append([b.score.title, f"{before:.4f}", f"{after:.4f}", share])
        return rows

    def _cost_table(self) -> str:
        rows = [["", "before", "after", "left"], *self.cost_rows()]
        share = "" if self.bayesian else f", {self.asked}"
        return table(rows, f"{self.strategy}{share}", numbers=(1, 2, 3))

    def proof_rows(self) -> list[list[str]]:
        """What was compared, the relative L2 or "-", and a note."""
        rows = []
        for name, difference in self.proof.all.items():
            value = "-" if difference.value is None else f"{difference.value:.1e}"
            rows.append([TITLES[name], value, difference.note])
        return rows

    def _proof_table(self) -> str:
        header = ["proof, at the tensors that enter the heads", "relative L2", ""]
        return table([header, *self.proof_rows()], "", numbers=(1,))


TITLES = {
    "posterior": "masked plain against masked Bayesian means",
    "blocks": "without blocks against silent branches",
    "masked": "compact against masked network",
    "fold": "left by inexact folds",
    **{name: engine.title for name, engine in ENGINES.items()},
}


def suited(width_steps: Mapping[str, int]) -> str:
    """Widths are in steps of 8: of 1 for opencv, 8 for onnxruntime"""
    step = max(width_steps.values(), default=UNKNOWN)
    measured = ", ".join(f"{own} for {name}" for name, own in width_steps.items())
    why = f"of {measured}" if measured else "no engine could be measured"
    return f"Widths are in steps of {step}: {why}"


def counted(number: int, noun: str) -> str:
    """1 block, 2 blocks"""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def block_changes(shortened: Shortened) -> list[BlockChange]:
    """The blocks that are gone."""
    if not shortened.blocks:
        return []
    layers, scores = (
        shortened.original.layers,
        block_scores(shortened.original, shortened.original.state()),
    )
    result = []
    for block in shortened.blocks:
        removed, score = [layers[i] for i in block.sections], scores[block.shortcut]
        result.append(
            BlockChange(
                block.shortcut,
                block.skip,
                block.sections,
                block.leaves,
                score if math.isfinite(score) else None,
                sum(layer.count_parameters() for layer in removed),
                sum(layer.macs() for layer in removed),
            )
        )
    return result


def _ranges(numbers: Sequence[int]) -> str:
    """2, 3, 4, 9 → 2-4, 9"""
    starts = [i for i in numbers if i - 1 not in numbers]
    ends = [i for i in numbers if i + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)


def report_of(session: Session, inputs: Inputs, cut: Cut, proof: Proof, runs: int) -> Report:
    """All that is to be said of a proven cut; raises DarknetError."""
    before, after = both_measured(session, cut.network, runs)
    origins = cut.shortened.origins
    layers = changes(cut.graph, cut.compact, cut.fold)
    return Report(
        session.network.cfg.path,
        inputs.weights,
        cut.spec.strategy,
        cut.plan.percent,
        cut.spec.folding,
        _pool(cut),
        before,
        after,
        proof,
        [replace(change, index=origins[change.index]) for change in layers],
        _bayesian(session, cut),
        cut.plan.target,
        cut.recovery,
        block_changes(cut.shortened),
        section_times(session.original, before.profile, after.profile, origins),
        None if is_random(inputs.weights) else verdict(session, cut, before, after),
        session.width_steps if cut.spec.limits.round_to == AUTO else None,
    )


def _pool(cut: Cut) -> tuple[int, int] | None:
    """The channels that a percent is a share of, before and after; None where nothing ranks."""
    entry = cut.spec.entry
    if entry is None or not entry.ranks:
        return None
    allowed = prunable(cut.graph, spec_without_blocks(cut.spec, cut.shortened))
    return cut.graph.count(allowed), cut.graph.count(allowed & cut.fold.kept)


def _bayesian(session: Session, cut: Cut) -> BayesianReport | None:
    posterior = cut.posterior
    if posterior is None:
        return None
    if session.accuracy is None:
        return BayesianReport.of(posterior, None)
    rounded = posterior.reduced(cut.graph.network.state())
    small = compact_network(cut.graph, cut.fold, rounded)
    return BayesianReport.of(
        posterior, session.accuracy(session.with_statistics(small, small.state()))
    )


def changes(graph: ChannelGraph, compact: Network, fold: Fold) -> list[LayerChange]:
    """The sections with filters that are cut."""
    result = []
    for i, layer in enumerate(graph.network.layers):
        after = compact.layers[i].out_shape.channels
        groups = graph.outputs[i]
        if not has_filters(layer) or fold.alive[groups].all():
            continue
        before = layer.out_shape.channels
        result.append(
            LayerChange(i, layer.section.type, before, after, _constants(fold, graph, groups))
        )
    return result


def _constants(fold: Fold, graph: ChannelGraph, groups: np.ndarray) -> str:
    carried = int(fold.constant_channels[groups].sum())
    if fold.ignored:
        return "dropped"
    if carried:
        return "in a constant channel" if carried == 1 else f"in {carried} constant channels"
    padded = fold.seen[groups] & ~fold.alive[groups]
    return "mean fold" if padded.any() else "in biases"
