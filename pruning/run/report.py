"""What a cut did, as data and as tables."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import thop
import torch

from pruning.bayesian.report import BayesianReport
from pruning.calibration.recovery import Recovery
from pruning.cut.blocks import block_scores
from pruning.cut.folding import Fold
from pruning.cut.shortened import Shorter
from pruning.graph.channels import ChannelGraph
from pruning.graph.rules import has_filters
from pruning.measure.latency import SectionTimes
from pruning.proof.engines import Profile
from pruning.proof.verify import Comparison, Proof
from yolo.evaluation.results import ClassifierEvaluation, Evaluation
from yolo.layers import Layer
from yolo.models.weights import Header, weights_size
from yolo.network import Network
from yolo.tables import table


@dataclass(frozen=True)
class Cost:
    """What a model costs: channels of its filters, parameters, MACs (ours, thop's), bytes, ms.

    `accuracy` is what it gives for that, where there were images to tell, `profile` the times of
    its sections.
    """

    channels: int
    parameters: int
    macs: int
    macs_thop: int
    weights_bytes: int
    latency_ms: Mapping[str, float | None]
    accuracy: Evaluation | None = None
    profile: Profile | None = None

    def to_json(self) -> dict[str, object]:
        """`map` of a detector, None where it isn't known, and `top1` of a classifier."""
        given = self.accuracy
        top1 = {"top1": given.top1} if isinstance(given, ClassifierEvaluation) else {}
        return {
            "channels": self.channels,
            "parameters": self.parameters,
            "macs": self.macs,
            "macs_thop": self.macs_thop,
            "weights_bytes": self.weights_bytes,
            "map": getattr(self.accuracy, "map", None),
            "latency_ms": dict(self.latency_ms),
            **top1,
        }


@dataclass(frozen=True)
class LayerChange:
    """One section with filters, before and after; `constants` tells how those it lost are kept."""

    index: int
    section: str
    before: int
    after: int
    constants: str


@dataclass(frozen=True)
class BlockChange:
    """A residual block that is gone: its [shortcut] and all sections that only it needed.

    Its `skip` stands in its place; where the shortcut itself does something with that, a depthwise
    [convolutional] `stays` to do it. `score` is that of blocks.block_scores, None where there is
    nothing to tell it; parameters and MACs are those of its sections.
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
    before: Cost
    after: Cost
    proof: Proof
    layers: Sequence[LayerChange]
    bayesian: BayesianReport | None = None
    target: str | None = None
    recovery: Recovery | None = None
    blocks: Sequence[BlockChange] = ()
    times: SectionTimes | None = None

    @property
    def asked(self) -> str:
        """How far the cut was to go, for a title."""
        gone = [counted(len(self.blocks), "block")] if self.blocks else []
        if self.target is not None:
            return ", ".join([*gone, self.target])
        percent = [f"percent {self.percent:g}"] if self.percent or not gone else []
        return ", ".join([*gone, *percent])

    @property
    def reached(self) -> float | None:
        """The percent that was cut in the end; constant channels count as kept."""
        return 1 - self.in_question[1] / max(self.in_question[0], 1) if self.in_question else None

    def to_json(self, files: Mapping[str, Path]) -> str:
        """`files` names the written `cfg` and `weights`."""
        proof = self.proof
        data = {
            "cfg": self.cfg,
            "weights": self.weights,
            "strategy": self.strategy,
            "percent": self.percent,
            "reached": self.reached,
            "fold": self.fold,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
            "proof": {
                "masked_vs_compact": proof.masked_vs_compact.value,
                "opencv": _value(proof, "opencv"),
                "darknet": _value(proof, "darknet"),
                "fold_difference": proof.fold_difference.value,
                **({"blocks": proof.blocks.value} if proof.blocks else {}),
                "notes": {name: found.note for name, found in _named(proof) if found.note},
            },
            "layers": [
                {
                    "index": layer.index,
                    "section": layer.section,
                    "before": layer.before,
                    "after": layer.after,
                    "constants": layer.constants,
                }
                for layer in self.layers
            ],
            "files": {kind: str(files[kind]) for kind in ("cfg", "weights")},
        }
        if self.target is not None:
            data["target"] = self.target
        if self.blocks:
            data["blocks"] = [block.to_json() for block in self.blocks]
        if self.times:
            data["sections_ms"] = self.times.to_json()
        if self.recovery:
            data["recovery"] = self.recovery.to_json()
        if self.bayesian:
            data["bayesian"] = self.bayesian.to_json()
        return json.dumps(data, indent=2) + "\n"

    def tables(self, proof: bool = True) -> str:
        """The report as a person reads it."""
        tables = [self._layer_table(), self._cost_table()]
        if self.blocks:
            tables[:1] = [self._block_table(), *(tables[:1] if self.layers else [])]
        if self.bayesian:
            tables.insert(0, self.bayesian.tables())
        if self.recovery:
            tables.append(str(self.recovery))
        return "\n".join([*tables, self._proof_table()] if proof else tables)

    def _layer_table(self) -> str:
        if not self.layers:
            return "Nothing is cut."
        rows = [["index", "section", "before", "after", "constants"]]
        for layer in self.layers:
            counts = str(layer.before), str(layer.after)
            rows.append([str(layer.index), layer.section, *counts, layer.constants])
        return table(rows, "channels of every section that is cut", numbers=(0, 2, 3))

    def _block_table(self) -> str:
        rows = [["shortcut", "its sections", "skip", "score", "parameters", "MACs", "stays"]]
        for block in self.blocks:
            score = "-" if block.score is None else f"{block.score:.3g}"
            spent = f"{block.parameters:,}", f"{block.macs:,}"
            what = "a depthwise 1x1" if block.stays else ""
            where = str(block.shortcut), _ranges(block.sections), str(block.skip)
            rows.append([*where, score, *spent, what])
        return table(rows, "blocks that are gone", numbers=(0, 2, 3, 4, 5))

    def _cost_table(self) -> str:
        b, a = self.before, self.after
        rows = [["", "before", "after", "left"]]
        question = (("channels in question", *self.in_question),) if self.in_question else ()
        for name, x, y in (
            *question,
            ("all channels", b.channels, a.channels),
            ("parameters", b.parameters, a.parameters),
            ("MACs", b.macs, a.macs),
            ("MACs by thop", b.macs_thop, a.macs_thop),
            ("bytes of weights", b.weights_bytes, a.weights_bytes),
        ):
            rows.append([name, f"{x:,}", f"{y:,}", f"{y / max(x, 1):.1%}"])
        for name, slow in b.latency_ms.items():
            fast = a.latency_ms[name]
            if slow is not None and fast is not None:
                rows.append([f"ms in {name}", f"{slow:.1f}", f"{fast:.1f}", f"{fast / slow:.1%}"])
        if b.accuracy and a.accuracy:
            good, left = b.accuracy.score, a.accuracy.score
            share = f"{left / good:.1%}" if good else "-"
            rows.append([b.accuracy.score_name, f"{good:.4f}", f"{left:.4f}", share])
        share = "" if self.bayesian else f", {self.asked}"
        return table(rows, f"{self.strategy}{share}", numbers=(1, 2, 3))

    def _proof_table(self) -> str:
        rows = [["proof, at the tensors that enter the heads", "relative L2", ""]]
        titles = {
            "bayesian": "masked plain against masked Bayesian means",
            "blocks": "without blocks against silent branches",
            "masked_vs_compact": "smaller against masked",
            "fold_difference": "left by inexact folds",
            "opencv": "smaller model in OpenCV, BN epsilon aligned",
            "darknet": "smaller model in Darknet, BN epsilon aligned",
        }
        compared = _named(self.proof)
        if self.bayesian:
            compared.insert(0, ("bayesian", self.bayesian.masked))
        for name, found in compared:
            value = "-" if found.value is None else f"{found.value:.1e}"
            rows.append([titles[name], value, found.note])
        return table(rows, "", numbers=(1,))


def counted(number: int, what: str) -> str:
    """1 block, 2 blocks"""
    return f"{number} {what}{'' if number == 1 else 's'}"


def block_changes(shorter: Shorter) -> list[BlockChange]:
    """The blocks that are gone."""
    if not shorter.blocks:
        return []
    layers, scores = shorter.whole.layers, block_scores(shorter.whole, shorter.whole.state())
    found = []
    for block in shorter.blocks:
        gone, score = [layers[i] for i in block.sections], scores[block.shortcut]
        found.append(
            BlockChange(
                block.shortcut,
                block.skip,
                block.sections,
                block.leaves,
                score if math.isfinite(score) else None,
                sum(layer.count_parameters() for layer in gone),
                sum(layer.macs() for layer in gone),
            )
        )
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """2, 3, 4, 9 → 2-4, 9"""
    starts = [i for i in numbers if i - 1 not in numbers]
    ends = [i for i in numbers if i + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in pairs)


def cost(
    network: Network, header: Header, latency_ms: Mapping[str, float | None] | None = None
) -> Cost:
    """What a network costs; times as given."""
    filters = (layer.out_shape.channels for layer in network.layers if has_filters(layer))
    return Cost(
        sum(filters),
        network.count_parameters(),
        network.macs(),
        thop_macs(network),
        weights_size(network, header),
        latency_ms or {"torch": None, "opencv": None},
    )


def thop_macs(network: Network) -> int:
    """MACs as thop counts them, BN included; thop sees shapes only, nothing is computed."""
    logging.getLogger("thop").setLevel(logging.ERROR)
    bare = Network(network.cfg)
    bare.forward = lambda x: [_pass_shapes(layer) for layer in bare.layers]  # type: ignore
    macs, _ = thop.profile(bare, (torch.empty(0),), verbose=False)
    return int(macs)


def _pass_shapes(layer: Layer) -> None:
    """Call the modules that thop counts, with tensors that have shapes and nothing else."""
    x, y = (
        torch.empty(1, shape.channels, shape.height, shape.width, device="meta")
        for shape in (layer.inputs[0], layer.out_shape)
    )
    for name in ("conv", "linear", "bn"):
        module = getattr(layer, name, None)
        if module is not None:
            module.forward = lambda x, y=y: y
            module(y if name == "bn" else x)


def changes(graph: ChannelGraph, smaller: Network, fold: Fold) -> list[LayerChange]:
    """The sections with filters that are cut."""
    found = []
    for i, layer in enumerate(graph.network.layers):
        after = smaller.layers[i].out_shape.channels
        groups = graph.outputs[i]
        if not has_filters(layer) or fold.alive[groups].all():
            continue
        before = layer.out_shape.channels
        found.append(
            LayerChange(i, layer.section.type, before, after, _constants(fold, graph, groups))
        )
    return found


def _constants(fold: Fold, graph: ChannelGraph, groups: np.ndarray) -> str:
    carried = int(fold.carriers[groups].sum())
    if fold.ignored:
        return "dropped"
    if carried:
        return "in a constant channel" if carried == 1 else f"in {carried} constant channels"
    padded = fold.seen[groups] & ~fold.alive[groups]
    return "mean fold" if padded.any() else "in biases"


def _value(proof: Proof, engine: str) -> float | None:
    found = proof.engines.get(engine)
    return found.value if found else None


def _named(proof: Proof) -> list[tuple[str, Comparison]]:
    first = [
        ("masked_vs_compact", proof.masked_vs_compact),
        ("fold_difference", proof.fold_difference),
    ]
    if proof.blocks:
        first.insert(0, ("blocks", proof.blocks))
    return first + list(proof.engines.items())
