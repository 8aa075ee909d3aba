"""One network and all that its cuts share: graph, statistics, costs, metric; each made when needed.

Nothing here changes the network that it was given.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from pruning.bayesian.cut import BayesianCut
from pruning.calibration.images import calibration_images, split
from pruning.calibration.recovery import Recovered, recover
from pruning.calibration.stamps import stamps_key
from pruning.calibration.statistics import Statistics, statistics_of
from pruning.cut.folding import Fold, Folding
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shortened
from pruning.cut.surgery import compact_network
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Cost
from pruning.measure.head_error import HeadError, batches
from pruning.measure.latency import profiler_of, timed_engine
from pruning.measure.measures import Latencies, Measures, MetricDrop, Milliseconds
from pruning.measure.metric import Accuracy, Metric
from pruning.measure.progress import Progress
from pruning.measure.savings import SectionRates
from pruning.measure.width_step import UNKNOWN, width_step
from pruning.registry import (
    AUTO,
    CALIBRATION_IMAGES,
    ENGINES,
    IMAGES,
    IMPORTANCES,
    POSTERIOR,
    RECOVERIES,
    SCAN,
    TIMED,
)
from pruning.selection.blocks import choose_blocks, original_quantities, spec_without_blocks
from pruning.selection.importance import Model, Scores
from pruning.selection.ranking import Ranked
from pruning.selection.schedule import Schedule
from pruning.selection.select import choose, schedule_of
from pruning.selection.sensitivity import scan
from pruning.spec import Saved, Spec, Thresholds, check_name
from yolo.errors import PlanError
from yolo.layers.bayesian import bayesian_layers
from yolo.models.load import load_model
from yolo.models.randomize import check_memory
from yolo.models.weights import Header
from yolo.network import Network, State
from yolo.training.variational import measure_statistics

SCHEDULES = 2  # that are kept: those of the latest cuts


@dataclass(frozen=True)
class Inputs:
    """The files that a user names.

    `cfg` may be None for a .pt file, which carries one. `data` names the data set whose validation
    images give the accuracy, `points` the rule for mAP (results.POINTS), `workers` the processes
    that read them. `calibrate` is a folder, a list or a data set, of which up to
    `calibration_images` images are taken. `latencies` is the table that a target in milliseconds
    is searched with, by default one in the user's cache, `ms_engine` one of registry.TIMED, the
    engine that it is of. `scan` is the file of a sensitivity scan.
    """

    cfg: str | None
    weights: str
    _: KW_ONLY
    data: str | None = None
    points: int = 0
    workers: int = 2
    calibrate: str | None = None
    calibration_images: int = CALIBRATION_IMAGES
    latencies: str | None = None
    ms_engine: str | None = None
    scan: str | None = None

    def __post_init__(self) -> None:
        check_name("ms-engine", self.ms_engine, TIMED)

    @property
    def images_key(self) -> str:
        """A name of the images that evaluate networks or calibrate them."""
        return stamps_key(self.data, self.points, self.calibrate, self.calibration_images)


@dataclass(frozen=True)
class Cut:
    """The outcome of a spec for a network.

    `plan` numbers sections as the original does, `graph` and `fold` as what is left of it without
    blocks does. `compact` is the network of the fold, `network` the one that is written: recovered,
    where there are images for that. `ranked` is there where channels were ranked, `posterior` where
    thresholds decided.
    """

    spec: Spec
    plan: Plan
    shortened: Shortened
    graph: ChannelGraph
    fold: Fold
    compact: Network
    network: Network
    recovery: Recovered | None = None
    ranked: Ranked | None = None
    posterior: BayesianCut | None = None


class Session:
    """A network to be cut, in as many ways as one likes.

    `images` (N, C, H, W) in [0, 1] calibrate, but for those held out; `accuracy` evaluates, and the
    engine `ms_engine` takes times.
    """

    def __init__(
        self,
        network: Network,
        header: Header | None = None,
        *,
        images: Tensor | None = None,
        accuracy: Accuracy | None = None,
        latencies: Path | None = None,
        ms_engine: str | None = None,
        scan: Path | None = None,
        images_key: str = "",
        progress: Progress = lambda step: None,
    ) -> None:
        self.network, self.header = network, header or Header()
        self.images, self.accuracy = images, accuracy
        self.progress = progress
        self._latencies_path, self._scan_path, self._images_key = latencies, scan, images_key
        self._ms_engine = ms_engine
        self._foldings: dict[str, Folding] = {}
        self._schedules: dict[object, Schedule] = {}

    @classmethod
    def open(
        cls, inputs: Inputs, progress: Progress = lambda step: None, runs: bool = True
    ) -> Session:
        """Read all inputs; raises DarknetError. `runs`: the network will be computed."""
        progress("reading")
        network, header = load_model(inputs.cfg, inputs.weights)
        original = network.plain()
        accuracy = None
        if inputs.data is not None:
            accuracy = Accuracy.of(original, inputs.data, inputs.points, inputs.workers, progress)
        if runs or inputs.calibrate:
            check_memory(original)
        images = None
        if inputs.calibrate:
            progress("reading images")
            images = calibration_images(inputs.calibrate, original, inputs.calibration_images)
        return cls(
            network,
            header,
            images=images,
            accuracy=accuracy,
            latencies=Path(inputs.latencies) if inputs.latencies else None,
            ms_engine=inputs.ms_engine,
            scan=Path(inputs.scan) if inputs.scan else None,
            images_key=inputs.images_key if inputs.scan else "",
            progress=progress,
        )

    # what cuts share

    @cached_property
    def original(self) -> Network:
        """The network in plain sections: itself, unless it is Bayesian."""
        return self.network.plain()

    @cached_property
    def graph(self) -> ChannelGraph:
        """The channel graph of the original."""
        return ChannelGraph(self.original)

    @cached_property
    def cost(self) -> Cost:
        """The cost of the original."""
        return Cost.of(self.original, self.header)

    @cached_property
    def metric(self) -> Metric:
        """mAP or top-1 where there are labeled images, else the error at the heads."""
        held_out = None if self.images is None else split(self.images)[1]
        return self.accuracy or HeadError(self.original, held_out)

    @cached_property
    def latencies(self) -> Latencies:
        """Latencies on this machine; raises EngineError."""
        profiler = profiler_of(self.ms_engine)
        return Latencies(
            self.original, self._latencies_path, compact_network, profiler, self.progress
        )

    @cached_property
    def ms_engine(self) -> str:
        """The engine that latencies are of; raises EngineError where it can't run the original."""
        check_memory(self.original)
        return timed_engine(self.original, self._ms_engine)

    @cached_property
    def width_steps(self) -> dict[str, int]:
        """The steps of widths that suit the engine that was asked for, or all that there are.

        Raises EngineError where the one that was asked for can't run the original.
        """
        names = [name for name in ENGINES if name in TIMED]
        if self._ms_engine:
            names = [self.ms_engine]
        found = {name: width_step(name, self._latencies_path, self.progress) for name in names}
        return {name: step for name, step in found.items() if step}

    @property
    def names_engine(self) -> bool:
        """True where an engine of milliseconds was asked for by name."""
        return self._ms_engine is not None

    @property
    def is_timed(self) -> bool:
        """True where a target has asked for latencies."""
        return "latencies" in vars(self)

    def statistics(self, network: Network) -> Statistics | None:
        """Statistics of the calibration images in a network; None where there are no images."""
        if self.images is None:
            return None
        if network is self.original:
            return self._statistics
        return statistics_of(network, self.images, self.progress)

    def quantities(self, spec: Spec) -> dict[str, float]:
        """The original's quantities that the targets of a spec bound."""
        return original_quantities(self.original, spec.targets, self._measures(spec))

    # one cut

    def cut(self, spec: Spec) -> Cut:
        """Plan, cut and recover; raises DarknetError where the network can't fulfil the spec."""
        self.progress("planning")
        spec.check_inputs(self._available)
        posterior = None
        if isinstance(spec.amount, Thresholds):
            posterior = BayesianCut.of(self.network, spec.amount, spec.limits)
        measures = self._measures(spec)
        shortened = self._shortened(self._base(spec, posterior), spec, measures)
        folding = self._folding(shortened, spec.folding)
        plan, ranked = self._planned(spec, shortened, folding, posterior, measures)
        fold = folding.fold(plan.alive(folding.graph), plan.mean)
        self.progress("cutting")
        compact = compact_network(folding.graph, fold)
        network, recovery = self._recovered(spec, shortened, folding.graph, fold, compact)
        return Cut(
            spec,
            replace(shortened.outer(plan), strategy=spec.strategy),
            shortened,
            folding.graph,
            fold,
            compact,
            network,
            recovery,
            ranked,
            posterior,
        )

    def with_statistics(self, network: Network, state: State) -> Network:
        """A network of rounded weights, its BN statistics measured anew where there are images."""
        copies = {
            i: {name: t.clone() for name, t in tensors.items()} for i, tensors in state.items()
        }
        result = Network.with_state(network.cfg, copies)
        if self.images is not None:
            self.progress("measuring the statistics of rounded weights")
            measure_statistics(result, batches(self.images))
        return result

    @property
    def _available(self) -> frozenset[str]:
        inputs = {
            IMAGES: self.images is not None,
            SCAN: self._scan_path is not None,
            POSTERIOR: bool(bayesian_layers(self.network.layers)),
        }
        return frozenset(name for name, available in inputs.items() if available)

    @cached_property
    def _statistics(self) -> Statistics:
        assert self.images is not None
        return statistics_of(self.original, self.images, self.progress)

    def _measures(self, spec: Spec) -> Measures:
        """A Measure for each kind of target; raises PlanError."""
        latencies = drop = None
        for target in spec.targets:
            if target.name == "map-drop":
                if self.accuracy is None:
                    raise PlanError(f"target {target}: needs labeled images (--data)")

                def finish(shortened: Shortened, graph: ChannelGraph, fold: Fold) -> Network:
                    compact = compact_network(graph, fold)
                    return self._recovered(spec, shortened, graph, fold, compact)[0]

                drop = MetricDrop(self.original, finish, self.accuracy)
            if target.name == "ms":
                latencies = self.latencies
        return Measures(self.header, latencies=latencies, drop=drop)

    def _base(self, spec: Spec, posterior: BayesianCut | None) -> Network:
        """The plain network that blocks and channels are cut from."""
        if posterior is None:
            return self.original
        plain = posterior.network.plain()
        if isinstance(spec.amount, Thresholds) and spec.amount.reduced:
            return self.with_statistics(plain, posterior.reduced(plain.state()))
        return plain

    def _shortened(self, base: Network, spec: Spec, measures: Measures) -> Shortened:
        """The network without the blocks that the spec takes; raises PlanError."""
        if isinstance(spec.amount, Saved):
            return Shortened.planned(base, spec.amount.plan)
        return Shortened.of(base, choose_blocks(base, spec, measures))

    def _folding(self, shortened: Shortened, mode: str) -> Folding:
        network = shortened.network
        if network is not self.original:
            return Folding(ChannelGraph(network), network.state(), mode)
        if mode not in self._foldings:
            self._foldings[mode] = Folding(self.graph, network.state(), mode)
        return self._foldings[mode]

    def _planned(
        self,
        spec: Spec,
        shortened: Shortened,
        folding: Folding,
        posterior: BayesianCut | None,
        measures: Measures,
    ) -> tuple[Plan, Ranked | None]:
        """The channels that are kept of what is left, and what ranked them; raises PlanError."""
        strategy = spec.entry
        if isinstance(spec.amount, Saved):
            return shortened.inner(spec.amount.plan), None
        if posterior:
            return posterior.plan(folding.graph, spec.strategy), None
        if strategy is None or not strategy.ranks:
            return Plan(spec.strategy, spec.percent, {}, target=spec.target), None
        available = measures(shortened, folding)
        ms = available.get("ms")
        rates = ms.rates() if isinstance(ms, Milliseconds) else None
        schedule = self._schedule(spec_without_blocks(spec, shortened), shortened, folding, rates)
        originals = None
        if shortened.blocks:  # shares of a target are of the original
            originals = original_quantities(shortened.original, spec.targets, measures)
        plan = choose(schedule, spec, available, originals)
        return plan, schedule.ranked

    def _schedule(
        self, spec: Spec, shortened: Shortened, folding: Folding, rates: SectionRates | None
    ) -> Schedule:
        """The schedule of a spec; cuts of the original that only go to another end share it.

        `rates` are what widths in steps are searched by, where that isn't MACs.
        """
        width_step = UNKNOWN
        if spec.round_to == AUTO:
            width_step = max(self.width_steps.values(), default=UNKNOWN)
        union = spec.percent if spec.group == "union" else None
        key = spec.strategy, spec.ranking, spec.limits, spec.folding, union
        if shortened.blocks or rates:
            model = self._model(spec, shortened, folding)
            return schedule_of(model, spec, folding, width_step, rates)
        if key not in self._schedules:
            for oldest in list(self._schedules)[: 1 - SCHEDULES]:
                del self._schedules[oldest]
            model = self._model(spec, shortened, folding)
            self._schedules[key] = schedule_of(model, spec, folding, width_step)
        return self._schedules[key]

    def _model(self, spec: Spec, shortened: Shortened, folding: Folding) -> Model:
        """The inputs of importances; raises PlanError."""
        name = spec.ranking.importance
        needs = IMPORTANCES[name].needs if name else ""
        if needs == POSTERIOR and shortened.blocks:
            raise PlanError(f"importance {name} can't be combined with removed blocks")
        statistics = None
        if name is None or needs in (IMAGES, SCAN):
            statistics = self.statistics(folding.graph.network)
        self.progress("planning")
        scores = self._sensitivity(spec, folding, statistics)
        seed = spec.ranking.seed
        return Model(folding.graph, folding.state, statistics, seed, scores, self.network)

    def _sensitivity(
        self, spec: Spec, folding: Folding, statistics: Statistics | None
    ) -> Scores | None:
        """The scan's loss for each group, where there is a file for one; raises PlanError."""
        if self._scan_path is None:
            return None
        metric = self.metric
        if folding.graph.network is not self.original and not self.accuracy:
            held_out = None if self.images is None else split(self.images)[1]
            metric = HeadError(folding.graph.network, held_out)
        path, images = self._scan_path, self._images_key
        losses = scan(path, folding, spec, metric, images, statistics, self.progress)
        self.progress("planning")
        return losses

    def _recovered(
        self,
        spec: Spec,
        shortened: Shortened,
        graph: ChannelGraph,
        fold: Fold,
        compact: Network,
    ) -> tuple[Network, Recovered | None]:
        """The network that is written: recovered where that is asked for."""
        recovery = RECOVERIES[spec.recover]
        if self.images is None or not recovery.needs:
            return compact, None

        def progress(section: int) -> None:
            self.progress(f"{spec.recover}: section {section} of {len(compact.layers)}")

        return recover(recovery, graph, fold, compact, self.images, progress, shortened)
