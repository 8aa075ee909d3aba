"""The whole way: cfg and weights → plan → cut → proof → files and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

from torch import Tensor

from pruning.bayesian.cut import BAYESIAN, BayesianCut
from pruning.bayesian.report import BayesianReport
from pruning.calibration.images import batches, calibration_images
from pruning.calibration.reconstruct import METHODS
from pruning.calibration.recovery import Recovery, recover
from pruning.calibration.statistics import Evidence, evidence_of
from pruning.cut.folding import Fold, Folding
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shorter
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.latency import (
    BRIEF,
    measure_for,
    opencv_profile,
    section_times,
    torch_profile,
)
from pruning.measure.measures import Lost, Measures, Stopwatch
from pruning.measure.metric import Accuracy, HeadError
from pruning.options import CALIBRATION_IMAGES, ENGINES, RECOVERIES, SENSITIVITY, SIGNAL
from pruning.proof.engines import Darknet, Engine, EngineError, OpenCV, Profile
from pruning.proof.verify import (
    SINGLE,
    Comparison,
    Proof,
    prove_blocks,
    prove_cut,
    prove_engine,
    prove_plain,
)
from pruning.run.report import Cost, Report, block_changes, changes, cost
from pruning.run.request import images_key
from pruning.run.result import Result
from pruning.selection import (
    LAYER,
    STRATEGIES,
    Wish,
    channel_wish,
    check_blocks,
    choose,
    choose_blocks,
    path_of,
    prunable,
    wholes,
)
from pruning.selection.importance import MEASURED, Model, Scores
from pruning.selection.ranking import Ranking
from pruning.selection.sensitivity import scan
from pruning.targets import parse_targets
from yolo.cfg import Cfg
from yolo.errors import PlanError
from yolo.models.load import load_model
from yolo.models.randomize import check_memory
from yolo.network import Network, State
from yolo.training.variational import settle

NOT_RUN = Comparison(None, "not run")


@dataclass(frozen=True)
class Job:
    """What a user asks for; `plan` takes the place of the wish where it is given.

    `cfg` may be None for a .pt file, which carries one.

    `verify` names the proofs to make (options.ENGINES), None all that are there; `runs` is how
    often latencies are measured, 0 not at all; `data` names the data set whose validation images
    tell the accuracy before and after, `points` the rule for mAP (results.POINTS), `workers` the
    processes that read them. The strategy bayesian takes `thresholds`, None for auto, in place of
    the wish's percent, which is 0 then, group and rounding; `reduced` writes its weights in reduced
    precision, with BN statistics measured anew on the images of `calibrate`. That names a folder,
    list or data set; for other strategies its images tell which channels can be made up for, and
    do so as `recover` (options.RECOVERIES) says: None is reconstruct with images, else fold.
    `latencies` is the table that a target in milliseconds is searched with, by default one in the
    user's cache, `scan` the file of a sensitivity scan.
    """

    cfg: str | None
    weights: str
    wish: Wish
    _: KW_ONLY
    fold: str = "auto"
    plan: str | None = None
    verify: tuple[str, ...] | None = None
    darknet: str | None = None
    runs: int = 5
    data: str | None = None
    points: int = 0
    workers: int = 2
    thresholds: str | None = None
    reduced: bool = False
    calibrate: str | None = None
    calibration_images: int = CALIBRATION_IMAGES
    recover: str | None = None
    latencies: str | None = None
    scan: str | None = None
    progress: Callable[[str], None] = field(default=lambda step: None, repr=False)

    @property
    def proofs(self) -> tuple[str, ...]:
        """Names of the proofs to make."""
        return tuple(ENGINES) if self.verify is None else self.verify


def prune(job: Job) -> Result:
    """Prune in memory and prove it; raises DarknetError, and ProofError where the proof fails."""
    return Pruning(job).result()


class Pruning:
    """A job on its way: what is read, then what is planned, cut, made up for, proven, measured."""

    def __init__(self, job: Job) -> None:
        """Reads all that is given; raises DarknetError."""
        self.job = job
        job.progress("reading")
        if job.plan is None:
            check_blocks(job.wish)
        self.given, self.header = load_model(job.cfg, job.weights)
        self.original = self.given.plain()
        self.accuracy = accuracy_of(job, self.original)
        self.method = _method(job)
        if job.runs or job.verify != () or job.calibrate:
            check_memory(self.original)
        self.images: Tensor | None = None
        if job.calibrate:
            self.images = calibration_images(job.calibrate, self.original, job.calibration_images)
        job.progress("planning")
        self.bayesian = _bayesian(job, self.given)
        # what the blocks and channels are cut from
        self.whole = self.given.plain() if self.bayesian else self.original
        if self.bayesian and job.reduced:
            self.whole = self._settled(self.whole.cfg, self.bayesian.reduced(self.whole.state()))
        self.saved = None if job.plan is None else Plan.load(job.plan)
        self.strategy = self.saved.strategy if self.saved else job.wish.strategy
        self.ranking: Ranking | None = None

    def result(self) -> Result:
        """All of it; raises DarknetError, and ProofError."""
        job, measures = self.job, self._measures()
        shorter = self._shorter(measures)
        without = self._prove_blocks(shorter)
        graph = ChannelGraph(shorter.network)
        mode = "none" if self.method == "none" else job.fold
        folding = Folding(graph, shorter.network.state(), mode)
        wish = channel_wish(replace(job.wish, strategy=self.strategy), shorter)
        plan = self._plan(shorter, folding, wish, measures)
        fold = folding.fold(plan.alive(graph), plan.mean)
        job.progress("cutting")
        cut = _cut(graph, fold)
        masked, difference = self._prove_cut(graph, fold, cut)
        smaller, recovery = self._recovered(graph, fold, cut, shorter)
        proof = Proof(masked, difference, prove_engines(job, self.whole, smaller), without)
        before, after = (self._cost(net, measures.stopwatch) for net in (self.original, smaller))
        origins = shorter.origins
        report = Report(
            self.given.cfg.path,
            job.weights,
            self.strategy,
            plan.percent,
            mode,
            _in_question(wish, graph, fold),
            before,
            after,
            proof,
            [replace(c, index=origins[c.index]) for c in changes(graph, smaller, fold)],
            self._bayesian_report(graph, fold),
            plan.target,
            recovery,
            block_changes(shorter),
            section_times(self.original, before.profile, after.profile, origins),
        )
        plan = replace(shorter.outer(plan), strategy=self.strategy)
        cut_ = Result(plan, shorter, graph, fold, smaller, self.header, report)
        return replace(cut_, bayesian=self.bayesian, ranking=self.ranking)

    def spent(self) -> dict[str, float]:
        """What the original comes to in all that its targets name, but for what grows."""
        return wholes(self.original, self.job.wish.target, self._measures())

    # planning

    def _measures(self) -> Measures:
        """What tells of each kind of target whether a cut meets it; raises PlanError."""
        job = self.job
        wanted = [] if job.plan or job.wish.target is None else parse_targets(job.wish.target)
        stopwatch = lost = None
        for target in wanted:
            if target.name == "map-drop":
                if self.accuracy is None:
                    raise PlanError(f"target {target}: needs images that tell the accuracy: --data")
                lost = Lost(self.original, self._finish, self.accuracy)
            if target.name == "ms":
                check_memory(self.original)
                path = Path(job.latencies) if job.latencies else None
                timed = measure_for(self.original)
                stopwatch = Stopwatch(self.original, path, _cut, timed, job.progress)
        return Measures(self.header, stopwatch=stopwatch, lost=lost)

    def _finish(self, shorter: Shorter, graph: ChannelGraph, fold: Fold) -> Network:
        """The network that is written in the end."""
        return self._recovered(graph, fold, _cut(graph, fold), shorter)[0]

    def _shorter(self, measures: Measures) -> Shorter:
        """The network without the blocks that a saved plan or the wish takes; raises PlanError."""
        if self.saved is not None:
            return Shorter.planned(self.whole, self.saved)
        return Shorter.of(self.whole, choose_blocks(self.whole, self.job.wish, measures))

    def _plan(self, shorter: Shorter, folding: Folding, wish: Wish, measures: Measures) -> Plan:
        """What is kept of the channels of what is left; raises PlanError."""
        graph = folding.graph
        if self.saved is not None:
            return shorter.inner(self.saved)
        if self.bayesian:
            return self.bayesian.plan(graph)
        if wish.strategy == LAYER:
            return Plan(LAYER, wish.percent, {}, target=wish.target)
        if wish.importance == SIGNAL and shorter.blocks:
            raise PlanError(f"importance {SIGNAL}: can't be told where blocks are gone")
        evidence = self._evidence(graph, wish)
        # shares of a target are of the network as it was given
        whole = wholes(self.whole, wish.target, measures) if shorter.blocks else None
        model = Model(
            graph,
            folding.state,
            evidence,
            wish.seed,
            self._sensitivity(folding, wish, evidence),
            self.given,
        )
        path = path_of(model, wish, folding)
        self.ranking = path.ranking
        return choose(path, measures(shorter, folding), whole)

    def _sensitivity(
        self, folding: Folding, wish: Wish, evidence: Evidence | None
    ) -> Scores | None:
        """What a scan found that goes with each group, where one is asked for; raises PlanError."""
        job = self.job
        if job.scan is None:
            return None
        judge = self.accuracy or HeadError.of(folding.graph.network, self.images)
        images = images_key(job.data, job.points, job.calibrate, job.calibration_images)
        found = scan(Path(job.scan), folding, wish, judge, images, evidence, job.progress)
        job.progress("planning")
        return found

    def _evidence(self, graph: ChannelGraph, wish: Wish) -> Evidence | None:
        """What the images tell of the channels, where the wish asks for it."""
        if self.images is None or wish.importance not in (None, SENSITIVITY, *MEASURED):
            return None
        evidence = evidence_of(graph.network, self.images, self.job.progress)
        self.job.progress("planning")
        return evidence

    # making up for the cut

    def _recovered(
        self, graph: ChannelGraph, fold: Fold, cut: Network, shorter: Shorter
    ) -> tuple[Network, Recovery | None]:
        """The network that is written: made up for where there are images to do it with."""
        method, images, report = self.method, self.images, self.job.progress
        if method not in METHODS or images is None:
            return cut, None

        def progress(section: int) -> None:
            report(f"{method}: section {section} of {len(cut.layers)}")

        return recover(method, graph, fold, cut, images, progress, shorter)

    # proofs

    def _prove_blocks(self, shorter: Shorter) -> Comparison | None:
        if not shorter.blocks:
            return None
        if "torch" not in self.job.proofs:
            return NOT_RUN
        self.job.progress("comparing with silent branches")
        return prove_blocks(shorter)

    def _prove_cut(
        self, graph: ChannelGraph, fold: Fold, cut: Network
    ) -> tuple[Comparison, Comparison]:
        if "torch" not in self.job.proofs:
            return NOT_RUN, NOT_RUN
        self.job.progress("comparing with the masked network")
        state = graph.network.state()
        masked, difference = prove_cut(graph, state, fold, cut.cfg, cut.state())
        if difference.value is not None and difference.value > SINGLE and not masked.note:
            difference = replace(difference, note="see the constants of each section")
        return masked, difference

    # measuring

    def _cost(self, network: Network, stopwatch: Stopwatch | None) -> Cost:
        """What a network costs; where milliseconds were asked for, what decided is what is told."""
        job, accuracy = self.job, self.accuracy
        times: dict[str, float | None] = {"torch": None, "opencv": None}
        profile = stopwatch.measured(network) if stopwatch else None
        if job.runs:
            job.progress("measuring")
            in_torch = torch_profile(network, job.runs, BRIEF)
            times["torch"] = in_torch.ms
            profile = profile or _in_opencv(network, job.runs) or in_torch
        if profile:
            times["torch" if profile.engine.startswith("torch") else "opencv"] = profile.ms
        spent = replace(cost(network, self.header, times), profile=profile)
        return replace(spent, accuracy=accuracy(network)) if accuracy else spent

    def _bayesian_report(self, graph: ChannelGraph, fold: Fold) -> BayesianReport | None:
        job, cut = self.job, self.bayesian
        if cut is None:
            return None
        masked = Comparison(None, "not run: the weights are rounded") if job.reduced else NOT_RUN
        if not job.reduced and "torch" in job.proofs:
            masked = prove_plain(cut.network, graph.network)
        if self.accuracy is None:
            return BayesianReport.of(cut, masked, None)
        small = _smaller(graph, cut.reduced(graph.network.state()), fold)
        reduced = self._settled(small.cfg, small.state())
        return BayesianReport.of(cut, masked, self.accuracy(reduced))

    def _settled(self, cfg: Cfg, rounded: State) -> Network:
        """A network of rounded weights, its BN statistics measured anew where there are images."""
        own = {
            i: {name: t.clone() for name, t in tensors.items()} for i, tensors in rounded.items()
        }
        network = Network.with_state(cfg, own)
        if self.images is not None:
            self.job.progress("measuring the statistics of rounded weights")
            settle(network, batches(self.images))
        return network


def _bayesian(job: Job, network: Network) -> BayesianCut | None:
    """The cut that thresholds make, where they are what is asked for."""
    wish, thresholds = job.wish, job.thresholds
    if wish.strategy == BAYESIAN and job.plan is None:
        bare = Wish(BAYESIAN, 0.0, keep_min=wish.keep_min, spare=wish.spare, only=wish.only)
        if replace(wish, percent=wish.percent or 0.0) != bare:
            what = "keep-min, spare and only are all that counts beside them"
            raise PlanError(f"{BAYESIAN} cuts at thresholds: {what}")
        return BayesianCut.of(network, "auto" if thresholds is None else thresholds, wish)
    if job.reduced:
        raise PlanError(f"reduced precision is for strategy {BAYESIAN}, which knows the posteriors")
    if thresholds is not None and job.plan is None:
        raise PlanError(f"thresholds {thresholds}: they are for strategy {BAYESIAN}")
    return None


def _method(job: Job) -> str:
    """How a cut is made up for; raises PlanError for what can't be done."""
    method = job.recover or ("reconstruct" if job.calibrate else "fold")
    if method not in RECOVERIES:
        raise PlanError(f"recover {method}: expected one of {', '.join(RECOVERIES)}")
    if method in METHODS and not job.calibrate:
        raise PlanError(f"recover {method}: needs images: --calibrate")
    if job.calibrate and job.wish.strategy == BAYESIAN and job.plan is None:
        if job.recover:
            raise PlanError(f"recover {job.recover}: {BAYESIAN} cuts what carries nothing")
        return "fold"  # the images are for BN behind weights that are rounded
    return method


def prove_engines(job: Job, original: Network, smaller: Network) -> dict[str, Comparison]:
    """The proofs in other engines that a job asks for; raises ProofError, EngineError."""
    found = {}
    for name, engine in engines_of(job).items():
        if isinstance(engine, Comparison):
            found[name] = engine
        else:
            job.progress(f"running {name}")
            found[name] = prove_engine(engine, original, smaller)
    return found


def engines_of(job: Job) -> dict[str, Engine | Comparison]:
    """The engines to prove with, or why there is none.

    Raises EngineError where one that was asked for by name is missing.
    """
    found: dict[str, Engine | Comparison] = {}
    for name in ("opencv", "darknet"):
        if name not in job.proofs:
            found[name] = NOT_RUN
            continue
        try:
            found[name] = OpenCV() if name == "opencv" else Darknet(job.darknet)
        except EngineError as error:
            if job.verify is not None or (name == "darknet" and job.darknet):
                raise
            found[name] = Comparison(None, str(error))
    return found


def accuracy_of(job: Job, network: Network) -> Accuracy | None:
    """What tells the accuracy; raises DarknetError for data that the network isn't made for."""
    if job.data is None:
        return None
    return Accuracy.of(network, job.data, job.points, job.workers, job.progress)


def _cut(graph: ChannelGraph, fold: Fold) -> Network:
    """The network that a fold makes."""
    return _smaller(graph, graph.network.state(), fold)


def _smaller(graph: ChannelGraph, state: State, fold: Fold) -> Network:
    cfg, small = operate(graph, state, fold)
    untouched = bool(fold.kept.all() and not fold.carriers.any())
    return Network.with_state(graph.network.cfg if untouched else cfg.strict(), small)


def _in_question(wish: Wish, graph: ChannelGraph, fold: Fold) -> tuple[int, int] | None:
    """The channels that the percent is a share of, before and after.

    None for a plan of a strategy that isn't known here.
    """
    if wish.strategy not in STRATEGIES:
        return None
    allowed = prunable(graph, wish)
    return graph.count(allowed), graph.count(allowed & fold.kept)


def _in_opencv(network: Network, runs: int) -> Profile | None:
    try:
        return opencv_profile(network, runs, BRIEF)
    except EngineError:
        return None
