"""The whole way: cfg and weights → plan → cut → proof → files and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

from torch import Tensor

from pruning.bayesian.cut import BAYESIAN, BayesianCut
from pruning.bayesian.report import BayesianReport
from pruning.calibration.evidence import gather
from pruning.calibration.images import batches, calibration_images
from pruning.calibration.reconstruct import METHODS
from pruning.calibration.recovery import Recovery, recover, split
from pruning.channels import ChannelGraph
from pruning.engines import Darknet, Engine, EngineError, OpenCV, Profile
from pruning.importance import MEASURED
from pruning.latency import (
    BRIEF,
    measure_for,
    opencv_profile,
    section_times,
    torch_profile,
)
from pruning.measures import Accuracy, Build, Lost, Measures, Stopwatch
from pruning.options import CALIBRATION_IMAGES, ENGINES, RECOVERIES
from pruning.plan import Plan
from pruning.recover import Fold, Folding
from pruning.report import Cost, Report, block_changes, changes, cost
from pruning.shorter import Shorter
from pruning.strategies import (
    LAYER,
    STRATEGIES,
    Wish,
    channel_wish,
    check_blocks,
    choose_blocks,
    prunable,
    select,
    wholes,
)
from pruning.surgery import operate
from pruning.targets import parse_targets
from pruning.verify import (
    SINGLE,
    Comparison,
    Proof,
    prove_blocks,
    prove_cut,
    prove_engine,
    prove_plain,
)
from yolo.datasets.data import Data
from yolo.datasets.loader import evaluation_loader
from yolo.errors import PlanError
from yolo.evaluate import check_classes
from yolo.files import Writer, content_writer, write_files
from yolo.models import load_model
from yolo.network import Network, State
from yolo.randomize import check_memory
from yolo.weights import Header, weights_writer


@dataclass(frozen=True)
class Job:
    """What a user asks for; `plan` takes the place of the wish where it is given.

    `cfg` may be None for a .pt file, which carries one.

    `verify` names the proofs to make (options.ENGINES), None all that are there; `runs` is how
    often latencies are measured, 0 not at all; `data` names the data set whose validation images
    tell the accuracy before and after, `points` the rule for mAP (results.POINTS), `workers` the
    processes that read them. The strategy bayesian takes `thresholds`, None for auto, in place of
    the wish's percent, which is 0 then, group and rounding; `reduced` writes its weights in reduced
    precision. `calibrate` names a folder, list or data set whose images tell which channels can be
    made up for, and do so as `recover` (options.RECOVERIES) says: None is reconstruct with images,
    else fold. `latencies` is the table that a target in milliseconds is searched with, by default
    one in the user's cache.
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
    progress: Callable[[str], None] = field(default=lambda step: None, repr=False)

    @property
    def proofs(self) -> tuple[str, ...]:
        """Names of the proofs to make."""
        return tuple(ENGINES) if self.verify is None else self.verify


@dataclass(frozen=True)
class Result:
    """A finished and proven cut.

    `plan` and `report` number sections as the given network does, `graph` and `fold` as what is
    left of it without blocks does.
    """

    plan: Plan
    shorter: Shorter
    graph: ChannelGraph
    fold: Fold
    smaller: Network
    header: Header
    report: Report
    bayesian: BayesianCut | None = None

    def writers(self, folder: Path, stem: str) -> list[tuple[Path, Writer]]:
        """What writes STEM.cfg, .weights and .json."""
        paths = result_files(folder, stem)
        report = self.report.to_json(paths).encode()
        return [
            (paths["cfg"], content_writer(self.smaller.cfg.to_bytes())),
            (paths["weights"], weights_writer(self.smaller, self.header)),
            (paths["json"], content_writer(report)),
        ]

    def write(self, folder: Path, stem: str) -> dict[str, Path]:
        """Write STEM.cfg, .weights and .json, all or none; raises DarknetError."""
        write_files(self.writers(folder, stem))
        return result_files(folder, stem)


def result_files(folder: Path, stem: str) -> dict[str, Path]:
    """The paths of a result's cfg, weights and report."""
    return {kind: folder / f"{stem}.{kind}" for kind in ("cfg", "weights", "json")}


def _measures(
    job: Job, original: Network, header: Header, accuracy: Accuracy | None, finish: Build
) -> Measures:
    """What tells of each kind of target whether a cut meets it; raises PlanError.

    `finish` makes the network that is written.
    """
    wanted = [] if job.plan or job.wish.target is None else parse_targets(job.wish.target)
    stopwatch = lost = None
    for target in wanted:
        if target.name == "map-drop":
            if accuracy is None:
                raise PlanError(f"target {target}: needs images that tell the accuracy: --data")
            lost = Lost(original, finish, accuracy)
        if target.name == "ms":
            check_memory(original)
            path = Path(job.latencies) if job.latencies else None
            stopwatch = Stopwatch(original, path, _cut, measure_for(original), job.progress)
    return Measures(header, stopwatch=stopwatch, lost=lost)


def make_plan(
    job: Job, shorter: Shorter, folding: Folding, measures: Measures, images: Tensor | None
) -> Plan:
    """The plan that fulfils the wish for the channels of what is left; raises PlanError."""
    if job.wish.strategy == LAYER:
        return Plan(LAYER, job.wish.percent, {}, target=job.wish.target)
    graph, evidence = folding.graph, None
    if images is not None and job.wish.importance in (None, *MEASURED):
        known, _ = split(images)
        job.progress(f"looking at {len(known)} images")
        evidence = gather(graph.network, batches(known))
        job.progress("planning")
    return select(
        graph,
        folding.state,
        job.wish,
        folding,
        evidence=evidence,
        measures=measures(folding),
        wholes=_wholes(job, shorter, measures),
    )


def _wholes(job: Job, shorter: Shorter, measures: Measures) -> dict[str, float] | None:
    """Shares of a target are of the network as it was given, not of what is left of it."""
    if not shorter.blocks:
        return None
    return wholes(shorter.whole, job.wish.target, measures)


def _shorter(job: Job, saved: Plan | None, whole: Network, measures: Measures) -> Shorter:
    """The network without the blocks that a saved plan or the wish takes; raises PlanError."""
    if saved is not None:
        return Shorter.planned(whole, saved)
    return Shorter.of(whole, choose_blocks(whole, job.wish, measures))


def prune(job: Job) -> Result:
    """Prune in memory and prove it; raises DarknetError, and ProofError where the proof fails."""
    job.progress("reading")
    if job.plan is None:
        check_blocks(job.wish)
    given, header = load_model(job.cfg, job.weights)
    original = given.plain()
    accuracy = _accuracy(job, original)
    method = _method(job)
    if job.runs or job.verify != () or job.calibrate:
        check_memory(original)
    calibration = None
    if job.calibrate:
        calibration = calibration_images(job.calibrate, original, job.calibration_images)
    job.progress("planning")
    bayesian = _bayesian(job, given)
    whole = given.plain() if bayesian else original
    if bayesian and job.reduced:
        whole.store(bayesian.reduced(whole.state()))
    saved = None if job.plan is None else Plan.load(job.plan)

    def finish(graph: ChannelGraph, fold: Fold) -> Network:
        return _recovered(job, method, graph, fold, _cut(graph, fold), calibration)[0]

    measures = _measures(job, original, header, accuracy, finish)
    shorter = _shorter(job, saved, whole, measures)
    without = _prove_blocks(job, shorter)
    state = shorter.network.state()
    graph = ChannelGraph(shorter.network)
    folding = Folding(graph, state, "none" if method == "none" else job.fold)
    strategy = job.wish.strategy if saved is None else saved.strategy
    wish = channel_wish(replace(job.wish, strategy=strategy), shorter)
    if saved is not None:
        plan = shorter.inner(saved)
    elif bayesian:
        plan = bayesian.plan(graph)
    else:
        plan = make_plan(replace(job, wish=wish), shorter, folding, measures, calibration)
    fold = folding.fold(plan.alive(graph), plan.mean)
    job.progress("cutting")
    smaller = _cut(graph, fold)
    masked, difference = _prove_cut(job, graph, fold, smaller)
    smaller, recovery = _recovered(job, method, graph, fold, smaller, calibration, shorter)
    proof = Proof(masked, difference, _prove_engines(job, whole, smaller), without)
    before, after = (
        _measured(job, net, header, accuracy, measures.stopwatch) for net in (original, smaller)
    )
    report = Report(
        given.cfg.path,
        job.weights,
        strategy,
        plan.percent,
        folding.mode,
        _in_question(wish, graph, fold),
        before,
        after,
        proof,
        [replace(c, index=shorter.origins[c.index]) for c in changes(graph, smaller, fold)],
        _bayesian_report(job, bayesian, graph, fold, accuracy) if bayesian else None,
        plan.target,
        recovery,
        block_changes(shorter),
        section_times(original, before.profile, after.profile, shorter.origins),
    )
    plan = replace(shorter.outer(plan), strategy=strategy)
    return Result(plan, shorter, graph, fold, smaller, header, report, bayesian)


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


def _cut(graph: ChannelGraph, fold: Fold) -> Network:
    """The network that a fold makes."""
    return _smaller(graph, graph.network.state(), fold)


def _smaller(graph: ChannelGraph, state: State, fold: Fold) -> Network:
    cfg, small = operate(graph, state, fold)
    untouched = bool(fold.kept.all() and not fold.carriers.any())
    return Network.with_state(graph.network.cfg if untouched else cfg.strict(), small)


def _recovered(
    job: Job,
    method: str,
    graph: ChannelGraph,
    fold: Fold,
    smaller: Network,
    images: Tensor | None,
    shorter: Shorter | None = None,
) -> tuple[Network, Recovery | None]:
    """The network that is written: made up for where there are images to do it with."""
    if method not in METHODS or images is None:
        return smaller, None

    def progress(section: int) -> None:
        job.progress(f"{method}: section {section} of {len(smaller.layers)}")

    return recover(method, graph, fold, smaller, images, progress, shorter)


def _bayesian_report(
    job: Job, cut: BayesianCut, graph: ChannelGraph, fold: Fold, accuracy: Accuracy | None
) -> BayesianReport:
    masked = Comparison(None, "not run: the weights are rounded" if job.reduced else "not run")
    if not job.reduced and "torch" in job.proofs:
        masked = prove_plain(cut.network, graph.network)
    if accuracy is None:
        return BayesianReport.of(cut, masked, None)
    reduced = _smaller(graph, cut.reduced(graph.network.state()), fold)
    return BayesianReport.of(cut, masked, accuracy(reduced))


def _in_question(wish: Wish, graph: ChannelGraph, fold: Fold) -> tuple[int, int] | None:
    """The channels that the percent is a share of, before and after.

    None for a plan of a strategy that isn't known here.
    """
    if wish.strategy not in STRATEGIES:
        return None
    allowed = prunable(graph, wish)
    return graph.count(allowed), graph.count(allowed & fold.kept)


def _method(job: Job) -> str:
    """How a cut is made up for; raises PlanError for what can't be done."""
    method = job.recover or ("reconstruct" if job.calibrate else "fold")
    if method not in RECOVERIES:
        raise PlanError(f"recover {method}: expected one of {', '.join(RECOVERIES)}")
    if method in METHODS and not job.calibrate:
        raise PlanError(f"recover {method}: needs images: --calibrate")
    if job.calibrate and job.wish.strategy == BAYESIAN and job.plan is None:
        raise PlanError(f"{BAYESIAN} cuts what carries nothing: there is nothing to calibrate")
    return method


def _prove_blocks(job: Job, shorter: Shorter) -> Comparison | None:
    if not shorter.blocks:
        return None
    if "torch" not in job.proofs:
        return Comparison(None, "not run")
    job.progress("comparing with silent branches")
    return prove_blocks(shorter)


def _prove_cut(
    job: Job, graph: ChannelGraph, fold: Fold, smaller: Network
) -> tuple[Comparison, Comparison]:
    if "torch" not in job.proofs:
        return Comparison(None, "not run"), Comparison(None, "not run")
    job.progress("comparing with the masked network")
    state = graph.network.state()
    masked, difference = prove_cut(graph, state, fold, smaller.cfg, smaller.state())
    if difference.value is not None and difference.value > SINGLE and not masked.note:
        difference = replace(difference, note="see the constants of each section")
    return masked, difference


def _prove_engines(job: Job, whole: Network, smaller: Network) -> dict[str, Comparison]:
    found = {}
    for name in ("opencv", "darknet"):
        if name not in job.proofs:
            found[name] = Comparison(None, "not run")
            continue
        job.progress(f"running {name}")
        try:
            engine: Engine = OpenCV() if name == "opencv" else Darknet(job.darknet)
        except EngineError as error:
            if job.verify is not None or (name == "darknet" and job.darknet):
                raise
            found[name] = Comparison(None, str(error))
            continue
        found[name] = prove_engine(engine, whole, smaller)
    return found


def _accuracy(job: Job, network: Network) -> Accuracy | None:
    """What tells the accuracy; raises DarknetError for data that the network isn't made for."""
    if job.data is None:
        return None
    data = Data.load(job.data)
    check_classes(network, data)
    images = evaluation_loader(data, network.cfg, workers=job.workers)
    return Accuracy(images, job.points, job.progress)


def _measured(
    job: Job,
    network: Network,
    header: Header,
    accuracy: Accuracy | None,
    stopwatch: Stopwatch | None,
) -> Cost:
    """What a network costs; where milliseconds were asked for, what decided is what is told."""
    times: dict[str, float | None] = {"torch": None, "opencv": None}
    profile = stopwatch.measured(network) if stopwatch else None
    if job.runs:
        job.progress("measuring")
        in_torch = torch_profile(network, job.runs, BRIEF)
        times["torch"] = in_torch.ms
        profile = profile or _in_opencv(job, network) or in_torch
    if profile:
        times["torch" if profile.engine.startswith("torch") else "opencv"] = profile.ms
    spent = replace(cost(network, header, times), profile=profile)
    return replace(spent, accuracy=accuracy(network)) if accuracy else spent


def _in_opencv(job: Job, network: Network) -> Profile | None:
    try:
        return opencv_profile(network, job.runs, BRIEF)
    except EngineError:
        return None
