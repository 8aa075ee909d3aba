"""The cuts of a comparison, made and judged one after the other; what they share is made once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pruning.calibration.images import calibration_images
from pruning.calibration.reconstruct import METHODS
from pruning.calibration.recovery import recover
from pruning.calibration.statistics import Evidence, evidence_of
from pruning.cut.folding import Fold, Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Costs
from pruning.measure.metric import Accuracy, HeadError, Judge
from pruning.proof.engines import EngineError, OpenCV
from pruning.run.compare import ORIGINAL, Cut, Measured, Outcome
from pruning.run.request import Request
from pruning.selection import Wish
from pruning.selection.budget import turns_to_meet
from pruning.selection.importance import MEASURED, Model
from pruning.selection.schedule import Path as Way
from yolo.errors import PlanError
from yolo.models.load import load_model
from yolo.models.randomize import check_memory
from yolo.models.weights import Header
from yolo.network import Network

TURNS = 3  # in which original and cut are timed alternately

Progress = Callable[[str], None]


def make(
    request: Request, known: Mapping[str, Outcome], progress: Progress = lambda step: None
) -> Iterator[Outcome]:
    """The outcomes that aren't among those known by their keys, the original's first.

    Known ones without the times that are asked for are made again, but not judged again. Raises
    DarknetError; what a cut itself can't fulfil is told in its outcome.
    """
    trials = Trials(request, progress)
    keys = request.keys()
    for number, (cut, key) in enumerate(keys.items()):
        before = known.get(key)
        if before is None or (request.runs and before.lacks_time):
            if cut == ORIGINAL:
                yield trials.original(key)
            else:
                step = f"cut {number} of {len(keys) - 1}, {cut}"
                yield trials.outcome(cut, key, before, step)


class Trials:
    """A network to be cut in many ways; whatever cuts share is made when the first asks for it."""

    def __init__(self, request: Request, progress: Progress) -> None:
        self.request, self._report = request, progress
        self._step = "the original"
        self._foldings: dict[str, Folding] = {}
        self._ways: dict[tuple[str, str, str], Way] = {}
        self._times: dict[bytes, tuple[float, float]] = {}

    def original(self, key: str) -> Outcome:
        """What the network itself comes to."""
        self._step = "the original"
        nothing = self._folding("fold").fold(np.ones(self.graph.size, bool))
        return Outcome(ORIGINAL, key, self._judged(nothing, self.graph.network))

    def outcome(self, cut: Cut, key: str, before: Outcome | None, step: str) -> Outcome:
        """What a cut comes to; `before` tells all but its times, where there is one."""
        self._step = step
        try:
            fold = self._planned(cut)
        except PlanError as error:
            return Outcome(cut, key, None, str(error))
        smaller, note = self._recovered(cut, fold)
        found = before.found if before else None
        found = found or self._judged(fold, smaller)
        if self.request.runs:
            found, missing = self._timed(found, smaller)
            note = "; ".join(filter(None, (note, missing)))
        return Outcome(cut, key, found, note)

    # what cuts share

    @cached_property
    def _model(self) -> tuple[Network, Header]:
        """The network as it is given, which may be Bayesian."""
        self._progress("reading")
        given, header = load_model(self.request.cfg, self.request.weights)
        check_memory(given)
        return given, header

    @cached_property
    def graph(self) -> ChannelGraph:
        return ChannelGraph(self._model[0].plain())

    @cached_property
    def _costs(self) -> Costs:
        return Costs(self.graph, self._model[1])

    @cached_property
    def _images(self) -> Tensor | None:
        """All calibration images, where there are some."""
        request = self.request
        if request.calibrate is None:
            return None
        self._progress("reading images")
        return calibration_images(request.calibrate, self.graph.network, request.calibration_images)

    @cached_property
    def _evidence(self) -> Evidence:
        assert self._images is not None
        return evidence_of(self.graph.network, self._images, self._progress)

    @cached_property
    def _judge(self) -> Judge:
        network, request = self.graph.network, self.request
        if request.data is None:
            return HeadError.of(network, self._images)
        return Accuracy.of(network, request.data, request.points)

    # one cut

    def _planned(self, cut: Cut) -> Fold:
        """The least cut that meets the target; raises PlanError."""
        name = cut.strategy, cut.importance, "none" if cut.recover == "none" else "fold"
        folding = self._folding(cut.recover)
        wish = Wish(cut.strategy, target=cut.target, importance=cut.importance)
        wish.check()
        if name not in self._ways:
            evidence = self._evidence if cut.importance in MEASURED else None
            self._progress("planning")
            for other in [way for way in self._ways if way[:2] != name[:2]]:
                del self._ways[other]  # all its cuts are made
            model = Model(self.graph, folding.state, evidence, posterior=self._model[0])
            self._ways[name] = Way(model, wish, folding)
        way = self._ways[name]
        return way.at(turns_to_meet(way, cut.target, self._costs.measures())).fold

    def _folding(self, recovery: str) -> Folding:
        mode = "none" if recovery == "none" else "auto"
        if mode not in self._foldings:
            self._foldings[mode] = Folding(self.graph, self.graph.network.state(), mode)
        return self._foldings[mode]

    def _recovered(self, cut: Cut, fold: Fold) -> tuple[Network, str]:
        """The smaller network, and what is to be said of it."""
        self._progress("cutting")
        cfg, state = operate(self.graph, self.graph.network.state(), fold)
        smaller = Network.with_state(cfg, state)
        if cut.recover not in METHODS or self._images is None:
            return smaller, ""
        step = f"section {{}} of {len(smaller.layers)}"
        made_up, recovery = recover(
            cut.recover,
            self.graph,
            fold,
            smaller,
            self._images,
            lambda section: self._progress(step.format(section)),
        )
        return made_up, "" if recovery.kept else f"{cut.recover} is no better, so the fold stays"

    def _judged(self, fold: Fold, network: Network) -> Measured:
        name, score = self._judge.scored(network, self._progress)
        spent, known = self._costs.of(fold.kept), math.isfinite(score)
        return Measured(**vars(spent), score_name=name, score=score if known else None)

    def _timed(self, found: Measured, smaller: Network) -> tuple[Measured, str]:
        """With times in OpenCV, or why there are none; they depend on the structure only."""
        structure = smaller.cfg.to_bytes()
        try:
            if structure not in self._times:
                self._times[structure] = self._alternating(smaller)
        except EngineError as error:
            return found, f"not timed: {error}"
        whole, ms = self._times[structure]
        return replace(found, ms=ms, whole_ms=whole), ""

    def _alternating(self, smaller: Network) -> tuple[float, float]:
        """Milliseconds of the original and of a cut, turn and turn about: medians of the turns."""
        engine, networks = OpenCV(torch.get_num_threads()), (self.graph.network, smaller)
        times = []
        for turn in range(TURNS):
            self._progress(f"timing, {turn + 1} of {TURNS}")
            times.append(
                [engine.latency(net.cfg.strict(), net, self.request.runs) for net in networks]
            )
        whole, ms = np.median(times, 0).tolist()
        return whole, ms

    def _progress(self, step: str) -> None:
        self._report(f"{self._step}: {step}")
