"""The cuts of a comparison, made and judged one after the other; what they share is made once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pruning.calibration.evidence import Evidence, gather
from pruning.calibration.images import batches, calibration_images
from pruning.calibration.reconstruct import METHODS
from pruning.calibration.recovery import entering, mean_error, recover, split
from pruning.channels import ChannelGraph
from pruning.compare import ERROR, ORIGINAL, Cut, Measured, Outcome
from pruning.costs import Costs
from pruning.engines import EngineError, OpenCV
from pruning.importance import MEASURED, Model
from pruning.recover import Fold, Folding
from pruning.request import Request
from pruning.strategies import Wish
from pruning.strategies.budget import turns_to_meet
from pruning.strategies.path import Path as Way
from pruning.surgery import operate
from yolo.datasets.batch import Batch
from yolo.datasets.data import Data
from yolo.datasets.evaluation import EvaluationLoader
from yolo.datasets.loader import evaluation_loader
from yolo.device import choose_device
from yolo.errors import PlanError
from yolo.evaluate import check_classes, evaluate
from yolo.models import load_model
from yolo.network import Network
from yolo.randomize import check_memory, smooth_noise
from yolo.weights import Header

NOISE_IMAGES = 8
TURNS = 3  # in which original and cut are timed alternately
KEPT_BYTES = 2**29  # of validation images that stay in memory from one cut to the next

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
        self._progress("reading")
        given, header = load_model(self.request.cfg, self.request.weights)
        check_memory(given)
        return given.plain(), header

    @cached_property
    def graph(self) -> ChannelGraph:
        return ChannelGraph(self._model[0])

    @cached_property
    def _costs(self) -> Costs:
        return Costs(self.graph, self._model[1])

    @cached_property
    def _images(self) -> tuple[Tensor, Tensor]:
        """All calibration images, and those that judge cuts where there is no data."""
        network, request = self.graph.network, self.request
        if request.calibrate is None:
            noise = smooth_noise(network.image, NOISE_IMAGES, torch.Generator().manual_seed(0))
            return noise, noise
        self._progress("reading images")
        images = calibration_images(request.calibrate, network, request.calibration_images)
        return images, split(images)[1]

    @cached_property
    def _evidence(self) -> Evidence:
        known, _ = split(self._images[0])
        self._progress(f"looking at {len(known)} images")
        return gather(self.graph.network, batches(known))

    @cached_property
    def _validation(self) -> EvaluationLoader | Kept:
        assert self.request.data is not None
        data, network = Data.load(self.request.data), self.graph.network
        check_classes(network, data)
        loader = evaluation_loader(data, network.cfg)
        size = 4 * network.image.elements * len(loader.items)
        return Kept(loader) if size <= KEPT_BYTES else loader

    @cached_property
    def _heads(self) -> list[list[Tensor]]:
        """What enters the original's heads, batch by batch."""
        whole = self.graph.network
        return [entering(whole, batch, whole.head_inputs) for batch in batches(self._images[1])]

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
            self._ways[name] = Way(Model(self.graph, folding.state, evidence), wish, folding)
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
        if cut.recover not in METHODS:
            return smaller, ""
        step = f"section {{}} of {len(smaller.layers)}"
        made_up, recovery = recover(
            cut.recover,
            self.graph,
            fold,
            smaller,
            self._images[0],
            lambda section: self._progress(step.format(section)),
        )
        return made_up, "" if recovery.kept else f"{cut.recover} is no better, so the fold stays"

    def _judged(self, fold: Fold, network: Network) -> Measured:
        name, score = self._accuracy(network) if self.request.data else self._head_error(network)
        spent, known = self._costs.of(fold.kept), math.isfinite(score)
        return Measured(**vars(spent), score_name=name, score=score if known else None)

    def _accuracy(self, network: Network) -> tuple[str, float]:
        done, images = 0, self._validation
        total = len(images.items)

        def progress(count: int) -> None:
            nonlocal done
            done += count
            self._progress(f"evaluating {done} of {total} images")

        self._progress("evaluating")
        copy = Network.with_state(network.cfg, network.state()).to(choose_device())
        found = evaluate(copy, images, points=self.request.points, progress=progress)
        return found.score_name, found.score

    def _head_error(self, network: Network) -> tuple[str, float]:
        """As recovery.head_error, but the original runs only once for all cuts."""
        self._progress("comparing what enters the heads")
        heads = self.graph.network.head_inputs
        images = zip(batches(self._images[1]), self._heads, strict=True)
        pairs = ((expected, entering(network, batch, heads)) for batch, expected in images)
        return ERROR, mean_error(pairs, len(heads))

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


class Kept:
    """The batches of a loader, read only once."""

    def __init__(self, loader: EvaluationLoader) -> None:
        self.data, self.letterbox, self.items = loader.data, loader.letterbox, loader.items
        self._loader = loader
        self._batches: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._batches is None:
            found = []
            for batch in self._loader:
                found.append(batch)
                yield batch
            self._batches = found
        else:
            yield from self._batches
