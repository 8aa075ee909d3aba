"""What cuts of a network can reach, before any is made: minima, a curve of ten cuts, a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pruning.cut.folding import Folding
from pruning.cut.surgery import compact_network
from pruning.measure.costs import Cost, Costs, Measure
from pruning.measure.latency import BRIEF, profiler_of, timed_engine
from pruning.measure.measures import Latencies, Milliseconds
from pruning.measure.progress import Progress
from pruning.proof.engines.base import Profile
from pruning.registry import STRATEGIES
from pruning.run.verdict import LIMIT, lost_energy
from pruning.selection.budget import steps_to_meet
from pruning.selection.importance import Model
from pruning.selection.schedule import Schedule
from pruning.selection.select import schedule_of
from pruning.session import Inputs, Session
from pruning.spec import Spec, Target, Targets
from yolo.errors import PlanError
from yolo.models.load import is_random
from yolo.network import Network
from yolo.records import record
from yolo.tables import table

KIND, SCHEMA = "forecast of cuts", 1
CUTS = 10
ANY = Targets.parse("macs=0.5")  # a schedule goes on to its end, whatever is asked for
FORECASTED = tuple(
    name for name, entry in STRATEGIES.items() if entry.ranks and "targets" in entry.accepts
)


@dataclass(frozen=True)
class Reached:
    """One cut: its cost, its predicted ms, the share of the scores' energy that goes with it.

    `ms` is None where nothing was timed, `energy` where the weights are random.
    """

    cost: Cost
    ms: float | None
    energy: float | None

    def to_json(self) -> dict[str, object]:
        return {**asdict(self.cost), "ms": self.ms, "energy": self.energy}


@dataclass(frozen=True)
class Answer:
    """The answer for targets: by which cut they can be met, or why not."""

    target: str
    reached: Reached | None
    why: str = ""

    def to_json(self) -> dict[str, object]:
        reached = self.reached.to_json() if self.reached else None
        return {"target": self.target, "reached": reached, "why": self.why}


@dataclass(frozen=True)
class Forecast:
    """The reach of a strategy's cuts of a network.

    `minima` are the smallest costs that each strategy can reach, `cuts` go from the original to
    that of `strategy` in equal steps of MACs. `engine` predicts milliseconds, "" for none.
    """

    cfg: str
    strategy: str
    engine: str
    original: Reached
    minima: Mapping[str, Cost]
    cuts: Sequence[Reached]
    answer: Answer | None = None

    def to_json(self) -> str:
        data: dict[str, object] = {
            "cfg": self.cfg,
            "strategy": self.strategy,
            "engine": self.engine,
            "original": self.original.to_json(),
            "minima": {name: asdict(cost) for name, cost in self.minima.items()},
            "cuts": [cut.to_json() for cut in self.cuts],
        }
        if self.answer:
            data["answer"] = self.answer.to_json()
        return record(KIND, SCHEMA, data)

    def tables(self) -> str:
        """The forecast as a person reads it."""
        parts = [self._minima(), self._curve()]
        if self.engine:
            parts.append(
                f"Milliseconds in {self.engine}: the first and the last are measured, the others "
                "predicted."
            )
        if self.original.energy is not None:
            parts.append(
                f"Energy: the share of Σγ² that goes; from {LIMIT:.0%} on next to nothing is left "
                "of the accuracy, unless --calibrate or a sparse training helps."
            )
        return "\n".join([*parts, *([self._answer(self.answer)] if self.answer else [])])

    def _minima(self) -> str:
        rows = [["", "channels", "parameters", "MACs", "of original", "bytes"]]
        for name, cost in {"original": self.original.cost, **self.minima}.items():
            share = f"{cost.macs / max(self.original.cost.macs, 1):.1%}"
            numbers = f"{cost.channels:,}", f"{cost.parameters:,}", f"{cost.macs:,}"
            rows.append([name, *numbers, share, f"{cost.bytes:,}"])
        return table(rows, "the least that a strategy can leave", numbers=range(1, 6))

    def _curve(self) -> str:
        rows = [["MACs", "of original", "parameters", "of original", "ms", "of original", "energy"]]
        rows += [self._row(cut) for cut in (self.original, *self.cuts)]
        return table(rows, f"cuts by {self.strategy}", numbers=range(7))

    def _row(self, cut: Reached) -> list[str]:
        first, ms = self.original, self.original.ms
        return [
            f"{cut.cost.macs:,}",
            f"{cut.cost.macs / max(first.cost.macs, 1):.1%}",
            f"{cut.cost.parameters:,}",
            f"{cut.cost.parameters / max(first.cost.parameters, 1):.1%}",
            "-" if cut.ms is None else f"{cut.ms:.1f}",
            f"{cut.ms / ms:.1%}" if cut.ms and ms else "-",
            "-" if cut.energy is None else f"{cut.energy:.1%}",
        ]

    def _answer(self, answer: Answer) -> str:
        if answer.reached is None:
            return f"Can't be met: {answer.why}"
        macs, _, parameters, _, ms, *_ = self._row(answer.reached)
        times = "" if answer.reached.ms is None else f", {ms} ms"
        return f"{answer.target} can be met: {macs} MACs, {parameters} parameters{times}"


def forecast(
    cfg: str | None,
    weights: str,
    strategy: str,
    target: Targets | None = None,
    runs: int = 3,
    progress: Progress = lambda step: None,
) -> Forecast:
    """The forecast for a network; raises DarknetError. No latencies where `runs` is 0."""
    _check(strategy, target, runs)
    session = Session.open(Inputs(cfg, weights), progress, runs=bool(runs))
    return _Forecaster(session, weights, strategy, runs).forecast(target)


def _check(strategy: str, target: Targets | None, runs: int) -> None:
    if strategy not in FORECASTED:
        raise PlanError(f"strategy {strategy}: expected one of {', '.join(FORECASTED)}")
    for one in target.all if target else ():
        if one.grows:
            raise PlanError(f"target {one}: needs images; ask prune.py with --data")
        if one.name == "ms" and not runs:
            raise PlanError(f"target {one}: needs latencies: runs of at least 1")


class _Forecaster:
    """The schedule of one strategy, and what measures its cuts."""

    def __init__(self, session: Session, weights: str, strategy: str, runs: int) -> None:
        self.session, self.strategy = session, strategy
        self.state = session.original.state()
        self.folding = Folding(session.graph, self.state)
        self.costs = Costs(session.graph, session.header)
        self.schedule = self._schedule(strategy)
        self.trained = not is_random(weights)
        self.times = _Times(self.schedule, session, self.costs, runs) if runs else None

    def forecast(self, target: Targets | None) -> Forecast:
        answer = self._answer(target) if target else None  # what it measures corrects the curve
        self.session.progress("planning")
        minima = self._minima()
        return Forecast(
            self.session.original.cfg.path,
            self.strategy,
            self.times.engine if self.times else "",
            self._reached(0),
            minima,
            [self._reached(steps) for steps in self._steps(minima[self.strategy])],
            answer,
        )

    def _schedule(self, strategy: str) -> Schedule:
        """Raises PlanError where the strategy isn't for this network."""
        model = Model(self.session.graph, self.state)
        return schedule_of(model, Spec(strategy, ANY), self.folding)

    def _minima(self) -> dict[str, Cost]:
        """The costs at the ends of all strategies that suit the network."""
        found = {}
        for name in FORECASTED:
            try:
                schedule = self.schedule if name == self.strategy else self._schedule(name)
            except PlanError:  # tiny where there are shortcuts
                continue
            found[name] = self.costs.of(schedule.at(len(schedule)).fold.kept)
        return found

    def _steps(self, least: Cost) -> list[int]:
        """The steps of ten cuts, from the original's MACs to the least."""
        most = self.session.cost.macs
        limits = [most - (most - least.macs) * number // CUTS for number in range(1, CUTS + 1)]
        measures = self.costs.measures()
        targets = [Target("macs", limit, False, f"macs={limit}") for limit in limits]
        return [steps_to_meet(self.schedule, [target], measures) for target in targets]

    def _reached(self, steps: int) -> Reached:
        fold = self.schedule.at(steps).fold
        energy = lost_energy(self.session.graph, self.state, fold) if self.trained else None
        ms = self.times.at(steps) if self.times else None
        return Reached(self.costs.of(fold.kept), ms, energy)

    def _answer(self, target: Targets) -> Answer:
        measures: dict[str, Measure] = self.costs.measures()
        if self.times:
            measures["ms"] = self.times.estimate
        try:
            steps = steps_to_meet(self.schedule, target.all, measures)
        except PlanError as error:
            return Answer(str(target), None, str(error))
        if self.times and any(one.name == "ms" for one in target.all):
            self.times.measure(steps)
        return Answer(str(target), self._reached(steps))


class _Times:
    """Milliseconds along a schedule: of some cuts measured, of those between them predicted."""

    def __init__(self, schedule: Schedule, session: Session, costs: Costs, runs: int) -> None:
        """Measure the original, the smallest cut, and one between them; raises EngineError."""
        original = session.original
        profiler = profiler_of(timed_engine(original))

        def brief(network: Network, most: int, seconds: float) -> Profile:
            return profiler(network, runs, BRIEF)

        progress = session.progress
        self._latencies = Latencies(original, None, compact_network, brief, progress)
        self._schedule = schedule
        self.estimate = Milliseconds(self._latencies, costs, session.graph)
        self.engine = self._latencies.measured(original).engine
        self._known: dict[int, float] = {}
        for steps in (0, len(schedule), len(schedule) // 2):
            self.measure(steps)

    def measure(self, steps: int) -> None:
        """Measure the cut after so many steps; measured once already, it isn't again."""
        step = self._schedule.at(steps)
        self._known[steps] = self.estimate.measure(step.plan, step.fold)

    def at(self, steps: int) -> float:
        """Measured milliseconds; between them, in line with the sum of the sections' times.

        A small network spends more of its time beside the sections than a large one.
        """
        if steps in self._known:
            return self._known[steps]
        sums, times = np.array(sorted((self._sum(n), ms) for n, ms in self._known.items())).T
        return float(np.interp(self._sum(steps), sums, times))

    def _sum(self, steps: int) -> float:
        """Predicted milliseconds of all sections together."""
        step = self._schedule.at(steps)
        return self.estimate(step.plan, step.fold) / max(self._latencies.ratio, 1e-9)
