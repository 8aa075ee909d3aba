"""Cuts of one network side by side: what is compared, and how finished cuts are found again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch

from pruning.calibration.stamps import digest_of, stamps
from pruning.measure.progress import Progress
from pruning.proof.engines.base import EngineError
from pruning.proof.engines.opencv import OpenCV
from pruning.registry import IMAGES, POSTERIOR, SCAN, STRATEGIES
from pruning.run.comparison import Combination, Comparison, Outcome, ScoredCost, last
from pruning.session import Inputs, Session
from pruning.spec import (
    COUNTED,
    Limits,
    Ranking,
    Spec,
    Targets,
    check_name,
    default_rounding,
)
from yolo.errors import PlanError
from yolo.models.load import is_random
from yolo.network import Network

ROUNDS = 3  # in which original and cut are timed alternately


@dataclass(frozen=True)
class Request:
    """Every combination of strategies, importances, targets and recoveries.

    The validation images of the inputs give mAP or top-1; without them networks are compared by the
    error at the heads, on held-out calibration images or on noise. A forward pass is timed `runs`
    times in each round, 0 for not at all. Raises PlanError for what no network could fulfil.
    """

    inputs: Inputs
    strategies: tuple[str, ...]
    importances: tuple[str, ...]
    targets: tuple[str, ...]
    recoveries: tuple[str, ...]
    runs: int = 0

    def __post_init__(self) -> None:
        axes = {
            "strategy": self.strategies,
            "importance": self.importances,
            "target": self.targets,
            "recover": self.recoveries,
        }
        for name, values in axes.items():
            if not values:
                raise PlanError(f"{name}: expected at least one")
        available = frozenset({IMAGES, POSTERIOR} if self.inputs.calibrate else {POSTERIOR})
        for spec in self.specs().values():
            if SCAN in spec.needs:
                raise PlanError(
                    f"importance {spec.ranking.importance}: use prune.py --scan for a single cut"
                )
            spec.check_inputs(available)
            for target in spec.targets:
                if target.name not in COUNTED:
                    names = ", ".join(COUNTED)
                    raise PlanError(f"target {target}: only {names} can be compared")

    def specs(self) -> dict[Combination, Spec]:
        """All combinations; those that share most follow each other."""
        axes = self.strategies, self.importances, self.targets, self.recoveries
        return {
            combination: Spec(
                combination.strategy,
                Targets.parse(combination.target),
                Ranking(importance=combination.importance),
                limits=Limits(round_to=_rounding(combination)),
                recover=combination.recover,
            )
            for combination in (Combination(*names) for names in product(*axes))
        }

    def keys(self) -> dict[Combination | None, str]:
        """The key of every outcome, first of the original's (None).

        It changes with the settings that matter to it, and with names, sizes and times of the cfg,
        the weights and the lists or folders of images. Raises DarknetError for missing files.
        """
        images = _images(self.inputs)
        shared = _shared(self.inputs)
        keys: dict[Combination | None, str] = {None: digest_of(shared)}
        for combination, spec in self.specs().items():
            own = images if needs_images(spec) else None
            keys[combination] = digest_of([*shared, *combination.names, own, spec.limits.round_to])
        return keys


def _rounding(combination: Combination) -> int | None:
    """As prune.py has it by default."""
    check_name("strategy", combination.strategy, STRATEGIES)
    amount = Targets.parse(combination.target)
    return default_rounding(STRATEGIES[combination.strategy], amount)


def comparison_for(inputs: Inputs, path: Path) -> Comparison:
    """The comparison of a file; raises DarknetError where it isn't of these inputs."""
    key, comparison = last(path)
    if key != digest_of(_shared(inputs)):
        raise PlanError(
            f"{path}: compares no cuts of this model by the same images: make it with compare.py, "
            "with the same --cfg, --weights, --data and --points"
        )
    return comparison


def _shared(inputs: Inputs) -> list[object]:
    """What all outcomes of the inputs depend on."""
    weights = inputs.weights if is_random(inputs.weights) else stamps(inputs.weights)
    metric = [inputs.points, *stamps(inputs.data)] if inputs.data else _images(inputs)
    return [stamps(inputs.cfg), weights, metric]


def _images(inputs: Inputs) -> list[object]:
    """The images that calibrate."""
    return [inputs.calibration_images, *stamps(inputs.calibrate)]


def needs_images(spec: Spec) -> bool:
    """True where a cut looks at calibration images."""
    return IMAGES in spec.needs


def compared(
    request: Request,
    outcomes: Mapping[str, Outcome],
    progress: Progress = lambda step: None,
) -> Iterator[Outcome]:
    """The outcomes that aren't among those known by their keys, the original's first.

    Known ones without the times that are asked for are made again, but not evaluated again. Raises
    DarknetError; what a cut itself can't fulfil is said in its outcome.
    """
    trials: Trials | None = None
    specs, keys = request.specs(), request.keys()
    for number, (combination, key) in enumerate(keys.items()):
        before = outcomes.get(key)
        if before and not (request.runs and before.lacks_time):
            continue
        trials = trials or Trials(request, progress)
        if combination is None:
            yield trials.original(key)
        else:
            step = f"cut {number} of {len(keys) - 1}, {combination}"
            yield trials.outcome(combination, specs[combination], key, before, step)


class Trials:
    """One session whose cuts are made, evaluated and timed."""

    def __init__(self, request: Request, progress: Progress) -> None:
        """Raises DarknetError for inputs that can't be used."""
        self.request, self._report = request, progress
        self._step = "the original"
        self.session = Session.open(request.inputs, self._progress)
        self._times: dict[bytes, tuple[float, float]] = {}

    def original(self, key: str) -> Outcome:
        """The original's cost and score."""
        self._step = "the original"
        return Outcome(None, key, self._scored(self.session.original))

    def outcome(
        self, combination: Combination, spec: Spec, key: str, before: Outcome | None, step: str
    ) -> Outcome:
        """A cut's cost and score; those of `before` are kept, where there is one."""
        self._step = step
        try:
            cut = self.session.cut(spec)
        except PlanError as error:
            return Outcome(combination, key, None, str(error))
        note = ""
        if cut.recovery and not cut.recovery.kept:
            note = f"{spec.recover} is no better, so the fold stays"
        result = (before.found if before else None) or self._scored(cut.network)
        if self.request.runs:
            result, missing = self._timed(result, cut.network)
            note = "; ".join(filter(None, (note, missing)))
        return Outcome(combination, key, result, note)

    def _scored(self, network: Network) -> ScoredCost:
        session = self.session
        name, score = session.metric.scored(network, self._progress)
        cost = session.cost.of(network, session.header)
        return ScoredCost(cost, name, score if math.isfinite(score) else None)

    def _timed(self, result: ScoredCost, network: Network) -> tuple[ScoredCost, str]:
        """With times in OpenCV, or the reason for none; they depend on the structure only."""
        structure = network.cfg.to_bytes()
        try:
            if structure not in self._times:
                self._times[structure] = self._alternating(network)
        except EngineError as error:
            return result, f"not timed: {error}"
        original, ms = self._times[structure]
        return replace(result, ms=ms, original_ms=original), ""

    def _alternating(self, network: Network) -> tuple[float, float]:
        """Milliseconds of the original and of a cut, measured alternately: medians of rounds."""
        engine, networks = OpenCV(threads=torch.get_num_threads()), (self.session.original, network)
        times = []
        for number in range(ROUNDS):
            self._progress(f"timing, {number + 1} of {ROUNDS}")
            times.append(
                [engine.latency(net.cfg.strict(), net, self.request.runs) for net in networks]
            )
        original, ms = np.median(times, 0).tolist()
        return original, ms

    def _progress(self, step: str) -> None:
        self._report(f"{self._step}: {step}")
