"""Prune a little, train a little: a cut in steps, each followed by a training.

Every step has a folder with the model that was cut and, in a folder of its own, its training. What
is there isn't done again, so that an interrupted run goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pruning.calibration.stamps import stamps
from pruning.measure.progress import Progress
from pruning.proof.verify import Difference, Proofs, prove_engines
from pruning.registry import POSTERIOR, TORCH
from pruning.run import report
from pruning.run.measured import Measured, Score, slower
from pruning.run.prune import Result, model_writers, prune, result_files
from pruning.session import Inputs, Session
from pruning.spec import Percent, Spec, Target, Targets
from yolo.errors import PlanError
from yolo.files import Writer, read_bytes, write_file
from yolo.models.load import is_random, load_model
from yolo.models.weights import Header
from yolo.network import Network
from yolo.records import read_record, record
from yolo.tables import table

MODEL, TRAINING, TRAINED, SETTINGS = "model", "training", "trained.weights", "steps.json"
KIND, SCHEMA = "list of steps", 2
RESULT, RESULT_SCHEMA = "report of a gradual cut", 2

# trains a cfg and its weights in a folder, or goes on there: the weights that come of it
Train = Callable[[Path, Path, Path], Path]
Amounts = Sequence[Percent | Targets]


def amounts(spec: Spec, steps: int, originals: Mapping[str, float]) -> Amounts:
    """How far each of so many steps cuts, the last one as far as the spec asks for.

    Of each target's quantity every step leaves the same share; `originals` are the original's. Of a
    percent every step takes the same share of what is left.
    """
    amount = spec.channels
    if isinstance(amount, Percent):
        return [Percent(1 - (1 - amount.share) ** (1 / steps))] * steps
    return [
        Targets(
            tuple(_part(target, originals[target.name], number / steps) for target in spec.targets)
        )
        for number in range(1, steps + 1)
    ]


def _part(target: Target, original: float, share: float) -> Target:
    """The target of a step after this share of all steps."""
    limit = min(target.limit * original if target.share else target.limit, original)
    value = original * (limit / original) ** share
    # 0.29 of 100 are 29, though 0.29 · 100 is a little less
    text = f"{value:.6g}" if target.name == "ms" else str(math.floor(value * (1 + 1e-12)))
    return Target(target.name, float(text), False, f"{target.name}={text}")


@dataclass(frozen=True)
class StepReport:
    """The report of a step's cut: the model before and after it, and the proof of the surgery."""

    asked: str
    before: Measured
    after: Measured
    masked: float | None

    @classmethod
    def load(cls, path: Path) -> StepReport:
        """Raises PlanError for a file that can't be used."""
        return read_record(path, report.KIND, report.SCHEMA, cls._parsed, PlanError)

    @classmethod
    def _parsed(cls, data: Mapping[str, Any]) -> StepReport:
        target, percent = data.get("target"), data["percent"]
        return cls(
            str(target) if target else f"percent={percent:.4g}",
            Measured.from_json(data["before"]),
            Measured.from_json(data["after"]),
            data["proof"]["masked"],
        )


@dataclass(frozen=True)
class Tuned:
    """The outcome of all steps: the trained network, its score, its proofs in engines."""

    inputs: Inputs
    spec: Spec
    cfg: str
    steps: Sequence[StepReport]
    network: Network
    header: Header
    score: Score
    engines: Mapping[str, Difference]

    def writers(self, folder: Path, stem: str) -> list[tuple[Path, Writer]]:
        """Writers of STEM.cfg, .weights and .json."""
        text = self.to_json(result_files(folder, stem))
        return model_writers(folder, stem, self.network, self.header, text)

    def to_json(self, files: Mapping[str, Path]) -> str:
        """`files` names the written `cfg` and `weights`."""
        first, last = self.steps[0].before, self.steps[-1].after
        content = {
            **({"warnings": self.warnings} if self.warnings else {}),
            "cfg": self.cfg,
            "weights": self.inputs.weights,
            "strategy": self.spec.strategy,
            "percent": self.spec.percent,
            "target": self.spec.target,
            "before": first.to_json(),
            "after": replace(last, score=self.score).to_json(),
            "steps": [
                {
                    "asked": step.asked,
                    "after": step.after.to_json(),
                    "masked": step.masked,
                    "trained": trained.value,
                }
                for step, trained in zip(self.steps, self._trained, strict=True)
            ],
            "proof": {name: difference.value for name, difference in self.engines.items()},
            "files": {kind: str(files[kind]) for kind in ("cfg", "weights")},
        }
        return record(RESULT, RESULT_SCHEMA, content)

    @property
    def warnings(self) -> list[str]:
        """The reasons why this may not be wanted."""
        return slower(self.steps[0].before, self.steps[-1].after)

    def tables(self) -> str:
        """The steps as a person reads them."""
        first = self.steps[0].before
        header = ["", "parameters", "MACs", "left", "ms in opencv"]
        rows = [[*header, "cut", "trained", "against masked"]]

        def row(name: str, measured: Measured, *scores: str) -> list[str]:
            cost, ms = measured.cost, measured.ms["opencv"]
            share = f"{cost.macs / max(first.cost.macs, 1):.1%}"
            times = "" if ms is None else f"{ms:.1f}"
            return [name, f"{cost.parameters:,}", f"{cost.macs:,}", share, times, *scores]

        rows.append(row("original", first, "", _score(first), ""))
        for number, (step, trained) in enumerate(zip(self.steps, self._trained, strict=True), 1):
            masked = "-" if step.masked is None else f"{step.masked:.1e}"
            scores = _score(step.after), f"{trained.value:.4f}"
            rows.append(row(f"step {number}", step.after, *scores, masked))
        title = f"{self.spec.strategy} in {len(self.steps)} steps; {self.score.title}"
        proofs = [
            f"The trained model in {name}: {_described(difference)}"
            for name, difference in self.engines.items()
        ]
        warnings = [f"warning: {text}" for text in self.warnings]
        return "\n".join([*warnings, table(rows, title, numbers=range(1, 8)), *proofs])

    @property
    def _trained(self) -> list[Score]:
        """The score after each training: what the next cut began with."""
        begun = [step.before.score for step in self.steps[1:]]
        return [*(score for score in begun if score), self.score]


class Gradual:
    """A cut in steps, in a folder with a folder for each; steps.json says what is asked of them.

    `settings` say how it is trained: where the folder was begun with others it isn't gone on.
    """

    def __init__(
        self,
        inputs: Inputs,
        spec: Spec,
        proofs: Proofs,
        runs: int,
        steps: int,
        folder: Path,
        train: Train,
        settings: Mapping[str, object],
        progress: Progress = lambda step: None,
    ) -> None:
        """Raises DarknetError."""
        _check(inputs, spec, steps)
        self.inputs, self.spec, self.proofs, self.runs = inputs, spec, proofs, runs
        self.steps, self.folder, self._train, self._progress = steps, folder, train, progress
        request = {
            "cfg": stamps(inputs.cfg),
            "weights": inputs.weights if is_random(inputs.weights) else stamps(inputs.weights),
            "data": stamps(inputs.data),
            "spec": asdict(spec),
            "steps": steps,
            "calibrate": [*stamps(inputs.calibrate), inputs.calibration_images],
            "points": inputs.points,
            "verify": proofs.makes(TORCH),
            **settings,
        }
        self._request = json.loads(json.dumps(request))  # tuples are lists in a file

    def run(self) -> Tuned:
        """Do what isn't done yet; raises DarknetError, and ProofError where a proof fails."""
        self.proofs.engines()  # a missing one is reported now
        session = Session.open(self.inputs, self._progress)
        step_amounts = self._begun() or amounts(
            self.spec, self.steps, session.quantities(self.spec)
        )
        reports: list[StepReport] = []
        inputs = self.inputs
        for number, amount in enumerate(step_amounts, 1):
            step, cfg, trained = self._step(number, amount, inputs, step_amounts)
            inputs = replace(inputs, cfg=str(cfg), weights=str(trained))
            reports.append(step)
        network, header = load_model(inputs.cfg, inputs.weights)
        accuracy = session.accuracy
        assert accuracy is not None
        engines = prove_engines(self.proofs, session.original, network, self._progress)
        score = Score.of(accuracy(network))
        path = session.network.cfg.path
        return Tuned(self.inputs, self.spec, path, reports, network, header, score, engines)

    def _step(
        self, number: int, amount: Percent | Targets, inputs: Inputs, step_amounts: Amounts
    ) -> tuple[StepReport, Path, Path]:
        """The report of a step, its cfg and its trained weights; made where they aren't there."""
        folder = self.folder / str(number)
        files, trained = result_files(folder, MODEL), folder / TRAINED
        if not all(path.exists() for path in files.values()):
            cut = self._cut(number, amount, inputs)
            self._begin(step_amounts)
            cut.write(folder, MODEL)
        if not trained.exists():
            self._progress(f"step {number} of {self.steps}: training")
            best = self._train(files["cfg"], files["weights"], folder / TRAINING)
            write_file(trained, read_bytes(best))
        return StepReport.load(files["json"]), files["cfg"], trained

    def _begun(self) -> Amounts:
        """The amounts of the folder's steps, none where it is new; raises PlanError for others."""
        path = self.folder / SETTINGS
        if not path.exists():
            return []
        begun = read_record(path, KIND, SCHEMA, dict, PlanError)
        for name, value in self._request.items():
            if begun.get(name) != value:
                raise PlanError(
                    f"{path}: begun with another {name}: remove {self.folder}, or use another "
                    "--name"
                )
        return read_record(path, KIND, SCHEMA, _amounts, PlanError)

    def _begin(self, step_amounts: Amounts) -> None:
        path = self.folder / SETTINGS
        if not path.exists():
            parts = [
                {"percent": amount.share}
                if isinstance(amount, Percent)
                else {"target": str(amount)}
                for amount in step_amounts
            ]
            write_file(path, record(KIND, SCHEMA, {**self._request, "asked": parts}).encode())

    def _cut(self, number: int, amount: Percent | Targets, inputs: Inputs) -> Result:
        """The cut of a step; engines and latencies are for the ends of all."""
        return prune(
            inputs,
            replace(self.spec, amount=amount),
            Proofs((TORCH,) if self.proofs.makes(TORCH) else ()),
            self.runs if number in (1, self.steps) else 0,
            lambda step: self._progress(f"step {number} of {self.steps}: {step}"),
        )


def _amounts(data: Mapping[str, Any]) -> Amounts:
    return [
        Targets.parse(part["target"]) if "target" in part else Percent(float(part["percent"]))
        for part in data["asked"]
    ]


def _check(inputs: Inputs, spec: Spec, steps: int) -> None:
    """Raises PlanError for what can't be done in steps."""
    if steps < 1:
        raise PlanError(f"steps {steps}: expected at least 1")
    if inputs.data is None:
        raise PlanError("--steps needs labeled images to train with: --data")
    if not isinstance(spec.amount, Percent | Targets):
        raise PlanError(
            f"--steps can't be combined with --strategy {spec.strategy}: cut once, then fine-tune "
            "with train.py"
        )
    if POSTERIOR in spec.needs and steps > 1:
        raise PlanError(
            f"--steps {steps} can't be combined with --importance {spec.ranking.importance}: what "
            "is cut has no posteriors; use --steps 1"
        )
    for target in spec.targets:
        if target.grows:
            raise PlanError(
                f"--steps can't be combined with {target}: it would be measured before training"
            )


def _score(measured: Measured) -> str:
    return f"{measured.score.value:.4f}" if measured.score else "-"


def _described(difference: Difference) -> str:
    if difference.value is None:
        return difference.note
    return (
        f"{difference.value:.1e} relative L2 at the tensors that enter the heads, {difference.note}"
    )
