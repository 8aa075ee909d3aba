"""A scan: losses of cutting single families of channels, by how far; and its file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pruning.calibration.statistics import Statistics
from pruning.cut.folding import Folding
from pruning.cut.plan import Name
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.head_error import ERROR
from pruning.measure.metric import Metric, digest
from pruning.measure.progress import Progress
from pruning.selection.importance import Model, Scores
from pruning.selection.ranking import Candidate, slot_macs
from pruning.selection.schedule import Schedule
from pruning.selection.select import schedule_of
from pruning.spec import Limits, Ranking, Spec
from yolo.errors import PlanError
from yolo.files import write_file
from yolo.network import Network
from yolo.records import read_record, record

KIND, SCHEMA = "sensitivity scan", 2
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the slots that can go: where it is measured
FILES = {"model": "this model", "images": "these images"}  # of a key; the rest are settings
TIE = 1e-9  # what the order's own score counts at most: it orders slots of equal losses


@dataclass(frozen=True)
class Curve:
    """Losses of cutting one family: `losses` by the number of slots that are gone.

    A family has `slots` slots, of which `most` can go, in these `sections`; with each go `macs`.
    """

    sections: tuple[int, ...]
    channel: int
    slots: int
    most: int
    macs: int
    losses: Mapping[int, float]

    @property
    def name(self) -> Name:
        return self.sections[0], self.channel

    @property
    def missing(self) -> list[int]:
        """The cuts that are still to be measured."""
        cuts = dict.fromkeys(round(share * self.most) for share in SHARES)
        return [cut for cut in cuts if cut and cut not in self.losses]

    def at(self, share: float) -> float:
        """The loss where this share of what can go is gone, between points on a line."""
        cuts, losses = zip(*[(0, 0.0), *sorted(self.losses.items())], strict=True)
        return float(np.interp(share * self.most, cuts, losses))

    def to_json(self) -> dict[str, object]:
        points = [{"cut": cut, "loss": loss} for cut, loss in sorted(self.losses.items())]
        return {**vars(self), "losses": points}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Curve:
        """Raises an error of dict or of a conversion for what isn't one."""
        losses = {int(point["cut"]): float(point["loss"]) for point in data["losses"]}
        numbers = {name: int(data[name]) for name in ("channel", "slots", "most", "macs")}
        curve = cls(tuple(map(int, data["sections"])), **numbers, losses=losses)
        if not (curve.sections and all(0 < cut <= curve.most < curve.slots for cut in losses)):
            raise ValueError("no such cut")
        if not all(map(math.isfinite, losses.values())):
            raise ValueError("a loss is a number")
        return curve


@dataclass(frozen=True)
class Scan:
    """A scan so far: a curve for every family, and the score of the original.

    `key` names all that the losses depend on: the network and the images by their digests, and
    how slots are ordered and folded.
    """

    key: Mapping[str, str]
    score_name: str
    score: float
    curves: Mapping[Name, Curve]

    @classmethod
    def load(cls, path: Path) -> Scan | None:
        """None where there is no file; raises PlanError for another file."""
        if not path.exists():
            return None
        return read_record(path, KIND, SCHEMA, cls._parsed, PlanError)

    @classmethod
    def _parsed(cls, data: dict[str, Any]) -> Scan:
        curves = [Curve.from_json(part) for part in data["families"]]
        key = {str(name): str(value) for name, value in data["key"].items()}
        name, score = str(data["score_name"]), float(data["score"])
        return cls(key, name, score, {curve.name: curve for curve in curves})

    def save(self, path: Path) -> None:
        """Raises DarknetError."""
        content = {
            "key": self.key,
            "score_name": self.score_name,
            "score": self.score,
            "families": [curve.to_json() for _, curve in sorted(self.curves.items())],
        }
        write_file(path, record(KIND, SCHEMA, content, indent=1).encode())

    def check(self, path: Path, key: Mapping[str, str]) -> None:
        """Raises PlanError where it isn't a scan of this."""
        different = [
            FILES.get(name, f"{name} {value}")
            for name, value in key.items()
            if self.key.get(name) != value
        ]
        if different:
            raise PlanError(
                f"{path}: a scan, but not with {', '.join(different)}: name another file"
            )

    def loss(self, score: float) -> float:
        """The loss of the score."""
        return score if self.score_name == ERROR else self.score - score


def scan(
    path: Path,
    folding: Folding,
    spec: Spec,
    metric: Metric,
    images: str,
    statistics: Statistics | None = None,
    progress: Progress = lambda step: None,
) -> Scores:
    """Loss with each group (groups,) of the families that a spec allows to be cut.

    Each is cut alone, its slots in the order of |γ| or, with statistics, of least squares. Every
    measurement is written at once: where there is a file, only the rest is measured. `images` names
    what the metric is computed on (Inputs.images_key). Raises PlanError for a file of
    another scan, and for a spec that can't be fulfilled.
    """
    graph = folding.graph
    model = Model(graph, folding.state, statistics)
    group = spec.ranking.group or "first"
    schedule = schedule_of(model, _alone(spec, group), folding)
    key = _key(graph, images, folding.mode, model.best, group)
    scanned = Scan.load(path)
    if scanned:
        scanned.check(path, key)
    else:
        progress("scanning: the original")
        name, score = metric.scored(graph.network, progress)
        scanned = Scan(key, name, _finite(score, graph), {})
        scanned.save(path)
    scanned = _with_all(scanned, path, graph, schedule)
    return _scores(graph, schedule, _measured(scanned, path, schedule, metric, progress))


def _alone(spec: Spec, group: str) -> Spec:
    """The spec in whose order a family is cut alone: without a floor for layers."""
    limits = Limits(layer_keep=0.0, spare=spec.limits.spare, only=spec.limits.only)
    ranking = Ranking(group=group, per_mac=False)
    return replace(spec.at_percent(0.0), ranking=ranking, limits=limits)


def marginal_losses(losses: Mapping[int, float], slots: int) -> Scores:
    """Loss with each slot (slots,), the first to go first, from losses by their number.

    The slope there, or before it where that was steeper: what goes later never costs less, so that
    whoever takes slots by what they cost takes them in their order, noise or not. Where little is
    left to lose, the next slot isn't cheap for that. Beyond the last point all cost as much.
    """
    slopes, highest, before = np.zeros(slots), 0.0, (0, 0.0)
    for cut, loss in sorted(losses.items()):
        highest = max(highest, (loss - before[1]) / (cut - before[0]))
        slopes[before[0] :] = highest
        before = cut, loss
    return slopes


def _with_all(scanned: Scan, path: Path, graph: ChannelGraph, schedule: Schedule) -> Scan:
    """With a curve, be it empty, for all families of a schedule; raises PlanError."""
    candidates = schedule.ranked.candidates
    macs = slot_macs(graph, [c.family for c in candidates])
    curves = dict(scanned.curves)
    for candidate in candidates:
        empty = _curve(candidate, int(macs[candidate.family.groups[0, 0]]))
        curve = curves.setdefault(empty.name, empty)
        if replace(curve, losses={}) != empty:
            raise PlanError(f"{path}: is a damaged {KIND}; remove it and make it again")
    return replace(scanned, curves=curves)


def _curve(candidate: Candidate, macs: int) -> Curve:
    family = candidate.family
    most = family.slots - candidate.least
    return Curve(family.sections, family.first, family.slots, most, macs, {})


def _measured(
    scanned: Scan, path: Path, schedule: Schedule, metric: Metric, progress: Progress
) -> Scan:
    """With all points; each is in the file as soon as it is known. Raises PlanError."""
    graph, candidates = schedule.folding.graph, schedule.ranked.candidates
    slots = [c.family.slots for c in candidates]
    missing = [
        (n, cut) for n, c in enumerate(candidates) for cut in scanned.curves[c.family.name].missing
    ]
    points = sum(len(scanned.curves[c.family.name].losses) for c in candidates)
    total = points + len(missing)
    for number, (n, cut) in enumerate(missing, points + 1):
        step = f"scanning, point {number} of {total}"
        progress(step)
        counts = [*slots[:n], slots[n] - cut, *slots[n + 1 :]]
        compact = Network.with_state(
            *operate(graph, schedule.folding.state, schedule.cut(counts).fold)
        )
        _, score = metric.scored(compact, _behind(step, progress))
        curve = scanned.curves[candidates[n].family.name]
        curve = replace(curve, losses={**curve.losses, cut: scanned.loss(_finite(score, graph))})
        scanned = replace(scanned, curves={**scanned.curves, curve.name: curve})
        scanned.save(path)
    return scanned


def _behind(step: str, progress: Progress) -> Progress:
    return lambda substep: progress(f"{step}: {substep}")


def _finite(score: float, graph: ChannelGraph) -> float:
    if not math.isfinite(score):
        raise PlanError(f"{graph.network.cfg.path}: its outputs are not finite: nothing to scan")
    return score


def _scores(graph: ChannelGraph, schedule: Schedule, scanned: Scan) -> Scores:
    """Loss with every group; 0 for others."""
    scores, candidates = np.zeros(graph.size), schedule.ranked.candidates
    highest = max((float(c.scores.max()) for c in candidates), default=0.0) or 1.0
    for candidate in candidates:
        family = candidate.family
        losses = marginal_losses(scanned.curves[family.name].losses, family.slots)
        # the best slots come first there, and go last
        scores[candidate.ranked] = losses[::-1] + TIE / highest * candidate.scores
    return scores


def _key(
    graph: ChannelGraph, images: str, mode: str, importance: str, group: str
) -> dict[str, str]:
    """All that losses depend on."""
    return {
        "model": digest(graph.network).hex()[:16],
        "images": images,
        "fold": mode,
        "importance": importance,
        "group": group,
    }
