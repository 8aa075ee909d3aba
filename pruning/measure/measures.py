"""Quantities of cuts that have to be built for that: milliseconds, and the loss of the metric."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np

from pruning.cut.folding import Fold, Folding
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shortened
from pruning.graph.channels import ChannelGraph, Mask
from pruning.measure import latency
from pruning.measure.costs import Costs, Measure
from pruning.measure.latency_table import LatencyTable, SectionKind, Widths
from pruning.measure.metric import Accuracy
from pruning.measure.progress import Progress
from pruning.measure.savings import SectionRates
from pruning.proof.engines.base import Profile
from yolo.models.weights import Header
from yolo.network import Network

RUNS = 15  # to measure a cut

Build = Callable[[ChannelGraph, Fold], Network]  # the compact network of a fold
Finish = Callable[[Shortened, ChannelGraph, Fold], Network]  # and the one that is written


@dataclass(frozen=True)
class Measures:
    """A Measure for each kind of target, for the cuts of a network.

    `latencies` are there where milliseconds are asked for, `drop` where the metric is. The network
    may lack some of the original's blocks already.
    """

    header: Header
    _: KW_ONLY
    latencies: Latencies | None = None
    drop: MetricDrop | None = None

    def __call__(self, shortened: Shortened, folding: Folding) -> dict[str, Measure]:
        costs = Costs(folding.graph, self.header)
        measures = costs.measures()
        if self.latencies:
            measures["ms"] = Milliseconds(self.latencies, costs, folding.graph)
        if self.drop:
            drop, graph = self.drop, folding.graph
            measures["map-drop"] = lambda plan, fold: drop(shortened, graph, fold)
        return measures


class Latencies:
    """Latencies of networks on this machine, all in one engine, and those of their sections.

    `ratio` is the latency of the last network over the sum of its sections'.
    """

    def __init__(
        self,
        network: Network,
        path: Path | None,
        build: Build,
        profiler: latency.Profiler,
        progress: Progress = lambda step: None,
    ) -> None:
        """Measure the network, and fill the table at `path` with its sections (LatencyTable).

        `build` makes the networks that are measured.
        """
        self.build, self._profiler, self._progress = build, profiler, progress
        self._profiles: dict[bytes, Profile] = {}
        profile = self.measured(network)
        self.table = LatencyTable(path, latency.machine(profile))
        layers = network.layers
        inputs = [(*layer.inputs, network.image)[0].channels for layer in layers]
        outputs = [layer.out_shape.channels for layer in layers]
        kinds = [SectionKind.of(layer) for layer in layers]
        self.learn(profile, kinds, list(zip(inputs, outputs, strict=True)))

    def measured(self, network: Network) -> Profile:
        """The same for networks of the same cfg; raises EngineError where it can't be run."""
        name = network.cfg.to_bytes()
        if name not in self._profiles:
            self._progress("measuring")
            self._profiles[name] = self._profiler(network, RUNS, latency.PATIENT)
        return self._profiles[name]

    def learn(
        self, profile: Profile, kinds: Sequence[SectionKind], widths: Sequence[Widths]
    ) -> None:
        """Take up the latencies of a network and of its sections."""
        times: dict[tuple[SectionKind, Widths], list[float]] = defaultdict(list)
        for section, ms in profile.sections.items():
            times[kinds[section], widths[section]].append(ms)
        self.table.add({key: float(np.mean(ms)) for key, ms in times.items()})
        total = self.total(kinds, widths)
        self.ratio = profile.ms / total if total else 1.0

    def total(self, kinds: Sequence[SectionKind], widths: Sequence[Widths]) -> float:
        """The sum of the sections' latencies."""
        return sum(map(self.table.predict, kinds, widths))


class Milliseconds:
    """An Estimate of the milliseconds of one image, from those of the sections."""

    def __init__(self, latencies: Latencies, costs: Costs, graph: ChannelGraph) -> None:
        self._latencies, self._costs, self._graph = latencies, costs, graph
        self._kinds = [SectionKind.of(layer) for layer in graph.network.layers]

    def __call__(self, plan: Plan, fold: Fold) -> float:
        latencies = self._latencies
        return latencies.ratio * latencies.total(self._kinds, self._widths(fold.kept))

    def measure(self, plan: Plan, fold: Fold) -> float:
        """Milliseconds, measured; raises EngineError."""
        latencies = self._latencies
        profile = latencies.measured(latencies.build(self._graph, fold))
        latencies.learn(profile, self._kinds, self._widths(fold.kept))
        return profile.ms

    def rates(self) -> SectionRates:
        """The milliseconds of every section, by its widths."""
        return self._latencies.table.rates(self._kinds)

    def _widths(self, kept: Mask) -> list[Widths]:
        inputs, outputs = self._costs.widths(kept)
        return list(zip(inputs.tolist(), outputs.tolist(), strict=True))


class MetricDrop:
    """Loss of the original's mAP or top-1 by a cut, in shares of 1.

    `finish` makes the network that is written in the end, `accuracy` evaluates it.
    """

    def __init__(self, original: Network, finish: Finish, accuracy: Accuracy) -> None:
        self._original, self._finish, self._accuracy = original, finish, accuracy
        self._drops: dict[tuple[tuple[int, ...], bytes], float] = {}

    def __call__(self, shortened: Shortened, graph: ChannelGraph, fold: Fold) -> float:
        # steps that a rounding undoes end in the same cut
        name = shortened.shortcuts, fold.kept.tobytes() + fold.alive.tobytes()
        if name not in self._drops:
            score = self._accuracy(self._finish(shortened, graph, fold)).score
            self._drops[name] = self._accuracy(self._original).score - score
        return self._drops[name]
