"""Prune a little, train a little: a cut in rounds, each followed by a training.

Every round has a folder with the model that was cut and, in a folder of its own, its training. What
is there isn't done again, so that an interrupted run goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pruning.bayesian.cut import BAYESIAN
from pruning.options import SIGNAL
from pruning.proof.verify import Comparison
from pruning.run.request import stamps
from pruning.run.result import Result, model_writers, result_files
from pruning.selection import Wish
from pruning.session import Job, Pruning, accuracy_of, engines_of, prove_engines, prune
from pruning.targets import KINDS, parse_targets
from yolo.errors import PlanError
from yolo.evaluation.results import Evaluation
from yolo.files import Writer, read_bytes, write_file
from yolo.models.load import is_random, load_model
from yolo.models.weights import Header
from yolo.network import Network
from yolo.tables import table

MODEL, TRAINING, TRAINED, SETTINGS = "model", "training", "trained.weights", "steps.json"

# trains a cfg and its weights in a folder, or goes on there: the weights that come of it
Train = Callable[[Path, Path, Path], Path]
Told = Mapping[str, Any]  # a report's JSON


def wishes(wish: Wish, rounds: int, spent: Mapping[str, float]) -> list[Wish]:
    """What each of so many rounds asks for, the last one as much as the wish does.

    Of each target's number every round leaves the same share; `spent` says what it is in the
    original. Of a percent every round takes the same share of what is left.
    """
    if wish.target is None:
        assert wish.percent is not None
        return [replace(wish, percent=1 - (1 - wish.percent) ** (1 / rounds))] * rounds
    found = []
    for number in range(1, rounds + 1):
        parts = []
        for target in parse_targets(wish.target):
            whole = spent[target.name]
            limit = min(target.limit * whole if target.share else target.limit, whole)
            value = whole * (limit / whole) ** (number / rounds)
            # 0.29 of 100 are 29, though 0.29 · 100 is a little less
            told = f"{value:.6g}" if target.name == "ms" else str(math.floor(value * (1 + 1e-12)))
            parts.append(f"{target.name}={told}")
        found.append(replace(wish, target=",".join(parts)))
    return found


@dataclass(frozen=True)
class Tuned:
    """What came of all rounds: `reports` are those of their cuts, `accuracy` is that of the end."""

    job: Job
    reports: Sequence[Told]
    network: Network
    header: Header
    accuracy: Evaluation
    engines: Mapping[str, Comparison]

    def writers(self, folder: Path, stem: str) -> list[tuple[Path, Writer]]:
        """What writes STEM.cfg, .weights and .json."""
        report = self.to_json(result_files(folder, stem))
        return model_writers(folder, stem, self.network, self.header, report)

    def to_json(self, files: Mapping[str, Path]) -> str:
        """`files` names the written `cfg` and `weights`."""
        first, last, score = self.reports[0], self.reports[-1], self._score
        data = {
            "cfg": first["cfg"],
            "weights": self.job.weights,
            "strategy": self.job.wish.strategy,
            "percent": self.job.wish.percent,
            "target": self.job.wish.target,
            "before": first["before"],
            "after": {**last["after"], score: self.accuracy.score},
            "steps": [
                {
                    "asked": report.get("target") or f"percent={report['percent']:.4g}",
                    "after": report["after"],
                    "masked_vs_compact": report["proof"]["masked_vs_compact"],
                    "trained": trained,
                }
                for report, trained in zip(self.reports, self._trained, strict=True)
            ],
            "proof": {name: found.value for name, found in self.engines.items()},
            "files": {kind: str(files[kind]) for kind in ("cfg", "weights")},
        }
        return json.dumps(data, indent=2) + "\n"

    def tables(self) -> str:
        """The rounds as a person reads them."""
        first, score = self.reports[0]["before"], self._score
        rows = [
            ["", "parameters", "MACs", "left", "ms in opencv", "cut", "trained", "against masked"]
        ]

        def row(name: str, cost: Told, *scores: str) -> list[str]:
            ms = cost["latency_ms"]["opencv"]
            spent = f"{cost['parameters']:,}", f"{cost['macs']:,}"
            left = f"{cost['macs'] / max(first['macs'], 1):.1%}"
            return [name, *spent, left, "" if ms is None else f"{ms:.1f}", *scores]

        rows.append(row("original", first, "", f"{first[score]:.4f}", ""))
        pairs = zip(self.reports, self._trained, strict=True)
        for number, (report, trained) in enumerate(pairs, 1):
            exact = report["proof"]["masked_vs_compact"]
            scores = f"{report['after'][score]:.4f}", f"{trained:.4f}"
            told = "-" if exact is None else f"{exact:.1e}"
            rows.append(row(f"step {number}", report["after"], *scores, told))
        title = f"{self.job.wish.strategy} in {len(self.reports)} steps; {self.accuracy.score_name}"
        proofs = [
            f"The trained model in {name}: {_said(found)}" for name, found in self.engines.items()
        ]
        return "\n".join([table(rows, title, numbers=range(1, 8)), *proofs])

    @property
    def _score(self) -> str:
        """By which name the reports tell the accuracy."""
        return "map" if self.reports[0]["before"]["map"] is not None else "top1"

    @property
    def _trained(self) -> list[float]:
        """The accuracy after each training: what the next cut began with."""
        begun = [report["before"][self._score] for report in self.reports[1:]]
        return [*begun, self.accuracy.score]


class Gradual:
    """A job in rounds, in a folder with a folder for each; steps.json says what is asked of them.

    `settings` say how it is trained: where the folder was begun with others it isn't gone on.
    """

    def __init__(
        self, job: Job, rounds: int, folder: Path, train: Train, settings: Mapping[str, object]
    ) -> None:
        """Raises DarknetError."""
        _check(job, rounds)
        self.job, self.rounds, self.folder, self._train = job, rounds, folder, train
        asked = {
            "cfg": stamps(job.cfg),
            "weights": job.weights if is_random(job.weights) else stamps(job.weights),
            "data": stamps(job.data),
            "wish": asdict(job.wish),
            "steps": rounds,
            "fold": job.fold,
            "recover": job.recover,
            "calibrate": [*stamps(job.calibrate), job.calibration_images],
            "points": job.points,
            "verify": "torch" in job.proofs,
            **settings,
        }
        self._asked = json.loads(json.dumps(asked))  # tuples are lists in a file

    def run(self) -> Tuned:
        """Do what isn't done yet; raises DarknetError, and ProofError where a proof fails."""
        job, reports = self.job, []
        cfg, weights = job.cfg, job.weights
        engines_of(job)  # what isn't there is said now
        asked = self._begun() or wishes(job.wish, self.rounds, Pruning(job).spent())
        for number, wish in enumerate(asked, 1):
            folder = self.folder / str(number)
            files, trained = result_files(folder, MODEL), folder / TRAINED
            if not all(path.exists() for path in files.values()):
                cut = self._cut(number, wish, cfg, weights)
                self._begin(asked)
                cut.write(folder, MODEL)
            if not trained.exists():
                job.progress(f"step {number} of {self.rounds}: training")
                best = self._train(files["cfg"], files["weights"], folder / TRAINING)
                write_file(trained, read_bytes(best))
            reports.append(_read(files["json"], "before", "after", "proof"))
            cfg, weights = str(files["cfg"]), str(trained)
        network, header = load_model(cfg, weights)
        accuracy = accuracy_of(job, network)
        assert accuracy is not None
        whole = load_model(job.cfg, job.weights)[0].plain()
        engines = prove_engines(job, whole, network)
        return Tuned(job, reports, network, header, accuracy(network), engines)

    def _begun(self) -> list[Wish]:
        """What the rounds ask for, where the folder has some; raises PlanError for others."""
        path = self.folder / SETTINGS
        if not path.exists():
            return []
        begun = _read(path, "asked")
        for name, value in self._asked.items():
            if begun.get(name) != value:
                other = f"begun with another {name}"
                raise PlanError(f"{path}: {other}: remove {self.folder}, or say another --name")
        return [replace(self.job.wish, **asked) for asked in begun["asked"]]

    def _begin(self, rounds: Sequence[Wish]) -> None:
        path = self.folder / SETTINGS
        if not path.exists():
            asked = [{"percent": wish.percent, "target": wish.target} for wish in rounds]
            text = json.dumps({**self._asked, "asked": asked}, indent=2) + "\n"
            write_file(path, text.encode())

    def _cut(self, number: int, wish: Wish, cfg: str | None, weights: str) -> Result:
        """What a round cuts; engines and times are for the ends of all."""
        job = self.job
        return prune(
            replace(
                job,
                cfg=cfg,
                weights=weights,
                wish=wish,
                verify=tuple(name for name in job.proofs if name == "torch"),
                runs=job.runs if number in (1, self.rounds) else 0,
                progress=lambda step: job.progress(f"step {number} of {self.rounds}: {step}"),
            )
        )


def _check(job: Job, rounds: int) -> None:
    """Raises PlanError for what can't be done in rounds."""
    wish = job.wish
    if rounds < 1:
        raise PlanError(f"steps {rounds}: expected at least 1")
    if job.data is None:
        raise PlanError("steps: training takes images: --data")
    if job.plan is not None:
        raise PlanError("steps: a plan is a single cut")
    if wish.strategy == BAYESIAN or wish.blocks is not None:
        what = "thresholds" if wish.strategy == BAYESIAN else "blocks"
        raise PlanError(f"steps: {what} say all at once: train what is cut with train.py")
    if wish.importance == SIGNAL and rounds > 1:
        raise PlanError(f"steps: importance {SIGNAL}: what is cut knows no noise: a single step")
    wish.check_far()
    for target in parse_targets(wish.target) if wish.target else ():
        if KINDS[target.name].grows:
            raise PlanError(f"steps: {target} is for a single cut: it would be told untrained")


def _said(found: Comparison) -> str:
    if found.value is None:
        return found.note
    return f"{found.value:.1e} relative L2 at the tensors that enter the heads, {found.note}"


def _read(path: Path, *needed: str) -> dict[str, Any]:
    try:
        found = json.loads(read_bytes(path))
        if not (isinstance(found, dict) and {*needed} <= found.keys()):
            raise ValueError("something is missing")
    except ValueError as error:
        what = "remove its folder, and those of later steps"
        raise PlanError(f"{path}: is damaged: {what}") from error
    return found
