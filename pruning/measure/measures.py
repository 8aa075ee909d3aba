"""What cuts come to where they have to be built for that: milliseconds, and what they lose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import numpy as np

from pruning.cut.folding import Fold, Folding
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shorter
from pruning.graph.channels import ChannelGraph, Mask
from pruning.measure import latency
from pruning.measure.costs import Costs, Measure
from pruning.measure.latency_table import Form, LatencyTable, Widths
from pruning.measure.metric import Accuracy
from pruning.proof.engines import Profile
from yolo.models.weights import Header
from yolo.network import Network

RUNS = 15  # to measure a cut

Build = Callable[[ChannelGraph, Fold], Network]  # the network that a fold makes of a graph's
Finish = Callable[[Shorter, ChannelGraph, Fold], Network]  # and what is written in the end
Progress = Callable[[str], object]


@dataclass(frozen=True)
class Measures:
    """What tells of the cuts of a network whether they meet targets of each kind.

    `stopwatch` is there where milliseconds are asked for, `lost` where the mAP is. It takes what
    is cut, which may be a network without some of its blocks already.
    """

    header: Header
    _: KW_ONLY
    stopwatch: Stopwatch | None = None
    lost: Lost | None = None

    def __call__(self, shorter: Shorter, folding: Folding) -> dict[str, Measure]:
        costs = Costs(folding.graph, self.header)
        found = costs.measures()
        if self.stopwatch:
            found["ms"] = Milliseconds(self.stopwatch, costs, folding.graph)
        if self.lost:
            lost, graph = self.lost, folding.graph
            found["map-drop"] = lambda plan, fold: lost(shorter, graph, fold)
        return found


class Stopwatch:
    """Measures networks on this machine, all in one engine, and knows the times of their sections.

    `ratio` is what the last of them took in shares of the sum of its sections.
    """

    def __init__(
        self,
        network: Network,
        path: Path | None,
        build: Build,
        measure: latency.Measure,
        progress: Progress = lambda step: None,
    ) -> None:
        """Measures the network, and fills the table at `path` with its sections (LatencyTable).

        `build` makes the networks that are measured.
        """
        self.build, self._measure, self._progress = build, measure, progress
        self._found: dict[bytes, Profile] = {}
        found = self.measured(network)
        self.table = LatencyTable(path, latency.machine(found))
        layers = network.layers
        inputs = [(*layer.inputs, network.image)[0].channels for layer in layers]
        outputs = [layer.out_shape.channels for layer in layers]
        self.learn(
            found, [Form.of(layer) for layer in layers], list(zip(inputs, outputs, strict=True))
        )

    def measured(self, network: Network) -> Profile:
        """The same for networks of the same cfg; raises EngineError where it can't be run."""
        name = network.cfg.to_bytes()
        if name not in self._found:
            self._progress("measuring")
            self._found[name] = self._measure(network, RUNS, latency.PATIENT)
        return self._found[name]

    def learn(self, found: Profile, forms: Sequence[Form], widths: Sequence[Widths]) -> None:
        """Take up what the sections of a network took, and what it took as a whole."""
        times: dict[tuple[Form, Widths], list[float]] = defaultdict(list)
        for section, ms in found.sections.items():
            times[forms[section], widths[section]].append(ms)
        self.table.add({key: float(np.mean(ms)) for key, ms in times.items()})
        told = self.told(forms, widths)
        self.ratio = found.ms / told if told else 1.0

    def told(self, forms: Sequence[Form], widths: Sequence[Widths]) -> float:
        """The sum of the sections' times."""
        return sum(map(self.table.predict, forms, widths))


class Milliseconds:
    """An Estimate of the milliseconds of one image, from those of the sections."""

    def __init__(self, stopwatch: Stopwatch, costs: Costs, graph: ChannelGraph) -> None:
        self._stopwatch, self._costs, self._graph = stopwatch, costs, graph
        self._forms = [Form.of(layer) for layer in graph.network.layers]

    def __call__(self, plan: Plan, fold: Fold) -> float:
        stopwatch = self._stopwatch
        return stopwatch.ratio * stopwatch.told(self._forms, self._widths(fold.kept))

    def settle(self, plan: Plan, fold: Fold) -> float:
        """Milliseconds, measured; raises EngineError."""
        stopwatch = self._stopwatch
        found = stopwatch.measured(stopwatch.build(self._graph, fold))
        stopwatch.learn(found, self._forms, self._widths(fold.kept))
        return found.ms

    def _widths(self, kept: Mask) -> list[Widths]:
        inputs, outputs = self._costs.widths(kept)
        return list(zip(inputs.tolist(), outputs.tolist(), strict=True))


class Lost:
    """What a cut costs of the mAP or top-1 that the original has, in shares of 1.

    `finish` makes the network that is written in the end, `accuracy` tells how good it is.
    """

    def __init__(self, original: Network, finish: Finish, accuracy: Accuracy) -> None:
        self._original, self._finish, self._accuracy = original, finish, accuracy
        self._found: dict[tuple[int, bytes], float] = {}

    def __call__(self, shorter: Shorter, graph: ChannelGraph, fold: Fold) -> float:
        # turns that a rounding undoes end in the same cut
        name = id(graph), fold.kept.tobytes() + fold.alive.tobytes()
        if name not in self._found:
            left = self._accuracy(self._finish(shorter, graph, fold)).score
            self._found[name] = self._accuracy(self._original).score - left
        return self._found[name]
