"""The whole way: cfg and weights → plan → cut → proof → files and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from pruning.bayesian.cut import BAYESIAN, BayesianCut
from pruning.bayesian.report import BayesianReport
from pruning.calibration.evidence import gather
from pruning.calibration.images import batches, calibration_images
from pruning.calibration.reconstruct import METHODS
from pruning.calibration.recovery import recover, split
from pruning.channels import ChannelGraph
from pruning.costs import Costs
from pruning.engines import Darknet, Engine, EngineError, OpenCV
from pruning.importance import MEASURED
from pruning.options import CALIBRATION_IMAGES, ENGINES, RECOVERIES
from pruning.plan import Plan
from pruning.recover import Fold, Folding
from pruning.report import Cost, Report, changes, cost
from pruning.strategies import STRATEGIES, Wish, prunable, select
from pruning.surgery import operate
from pruning.verify import (
    SINGLE,
    Comparison,
    Proof,
    latency,
    prove_cut,
    prove_engine,
    prove_plain,
)
from yolo.datasets.data import Data
from yolo.datasets.evaluation import EvaluationLoader
from yolo.datasets.loader import evaluation_loader
from yolo.device import choose_device
from yolo.errors import PlanError
from yolo.evaluate import check_classes, evaluate
from yolo.files import Writer, content_writer, write_files
from yolo.models import load_model
from yolo.network import Network, State
from yolo.randomize import check_memory
from yolo.results import Evaluation
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
    else fold.
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
    progress: Callable[[str], None] = field(default=lambda step: None, repr=False)


@dataclass(frozen=True)
class Result:
    """A finished and proven cut."""

    plan: Plan
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


def make_plan(job: Job, folding: Folding, header: Header, images: Tensor | None) -> Plan:
    """The saved plan, or one that fulfils the wish; raises PlanError."""
    if job.plan is not None:
        return Plan.load(job.plan)
    graph, evidence = folding.graph, None
    measures = Costs(graph, header).measures()
    if images is not None and job.wish.importance in (None, *MEASURED):
        known, _ = split(images)
        job.progress(f"looking at {len(known)} images")
        evidence = gather(graph.network, batches(known))
        job.progress("planning")
    return select(graph, folding.state, job.wish, folding, evidence=evidence, measures=measures)


def prune(job: Job) -> Result:
    """Prune in memory and prove it; raises DarknetError, and ProofError where the proof fails."""
    job.progress("reading")
    given, header = load_model(job.cfg, job.weights)
    original = given.plain()
    images = _images(job, original)
    method = _method(job)
    if job.runs or job.verify != () or job.calibrate:
        check_memory(original)
    calibration = None
    if job.calibrate:
        calibration = calibration_images(job.calibrate, original, job.calibration_images)
    job.progress("planning")
    bayesian = _bayesian(job, given)
    network = given.plain() if bayesian else original
    if bayesian and job.reduced:
        network.store(bayesian.reduced(network.state()))
    state = network.state()
    graph = ChannelGraph(network)
    folding = Folding(graph, state, "none" if method == "none" else job.fold)
    plan = bayesian.plan(graph) if bayesian else make_plan(job, folding, header, calibration)
    fold = folding.fold(plan.alive(graph), plan.mean)
    job.progress("cutting")
    smaller = _smaller(graph, state, fold)
    masked, difference = _prove_cut(job, graph, fold, smaller)
    recovery = None
    if method in METHODS and calibration is not None:
        step = f"{method}: section {{}} of {len(smaller.layers)}"
        smaller, recovery = recover(
            method, graph, fold, smaller, calibration, lambda i: job.progress(step.format(i))
        )
    proof = Proof(masked, difference, _prove_engines(job, graph.network, smaller))
    before, after = (_measured(job, net, header, images) for net in (original, smaller))
    report = Report(
        given.cfg.path,
        job.weights,
        plan.strategy,
        plan.percent,
        folding.mode,
        _in_question(replace(job.wish, strategy=plan.strategy), graph, fold),
        before,
        after,
        proof,
        changes(graph, smaller, fold),
        _bayesian_report(job, bayesian, graph, fold, images) if bayesian else None,
        plan.target,
        recovery,
    )
    return Result(plan, graph, fold, smaller, header, report, bayesian)


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


def _smaller(graph: ChannelGraph, state: State, fold: Fold) -> Network:
    cfg, small = operate(graph, state, fold)
    untouched = bool(fold.kept.all() and not fold.carriers.any())
    return Network.with_state(graph.network.cfg if untouched else cfg.strict(), small)


def _bayesian_report(
    job: Job, cut: BayesianCut, graph: ChannelGraph, fold: Fold, images: EvaluationLoader | None
) -> BayesianReport:
    masked = Comparison(None, "not run: the weights are rounded" if job.reduced else "not run")
    if not job.reduced and (job.verify is None or "torch" in job.verify):
        masked = prove_plain(cut.network, graph.network)
    if images is None:
        return BayesianReport.of(cut, masked, None)
    state = cut.reduced(graph.network.state())
    accuracy = _accuracy(job, _smaller(graph, state, fold), images)
    return BayesianReport.of(cut, masked, accuracy)


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


def _prove_cut(
    job: Job, graph: ChannelGraph, fold: Fold, smaller: Network
) -> tuple[Comparison, Comparison]:
    wanted = tuple(ENGINES) if job.verify is None else job.verify
    if "torch" not in wanted:
        return Comparison(None, "not run"), Comparison(None, "not run")
    job.progress("comparing with the masked network")
    state = graph.network.state()
    masked, difference = prove_cut(graph, state, fold, smaller.cfg, smaller.state())
    if difference.value is not None and difference.value > SINGLE and not masked.note:
        difference = replace(difference, note="see the constants of each section")
    return masked, difference


def _prove_engines(job: Job, whole: Network, smaller: Network) -> dict[str, Comparison]:
    wanted = tuple(ENGINES) if job.verify is None else job.verify
    found = {}
    for name in ("opencv", "darknet"):
        if name not in wanted:
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


def _images(job: Job, network: Network) -> EvaluationLoader | None:
    """What tells the accuracy; raises DarknetError for data that the network isn't made for."""
    if job.data is None:
        return None
    data = Data.load(job.data)
    check_classes(network, data)
    return evaluation_loader(data, network.cfg, workers=job.workers)


def _accuracy(job: Job, network: Network, images: EvaluationLoader) -> Evaluation:
    """How good the network is; it is computed where that is fastest."""
    done, total = 0, len(images.items)

    def progress(count: int) -> None:
        nonlocal done
        done += count
        job.progress(f"evaluating: {done} of {total} images")

    copy = Network.with_state(network.cfg, network.state())
    return evaluate(copy.to(choose_device()), images, points=job.points, progress=progress)


def _measured(job: Job, network: Network, header: Header, images: EvaluationLoader | None) -> Cost:
    times: dict[str, float | None] = {"torch": None, "opencv": None}
    if job.runs:
        job.progress("measuring")
        times["torch"] = latency(network, job.runs)
        try:
            engine = OpenCV(torch.get_num_threads())
            times["opencv"] = engine.latency(network.cfg, network, job.runs)
        except EngineError:
            times["opencv"] = None
    spent = cost(network, header, times)
    return replace(spent, accuracy=_accuracy(job, network, images)) if images else spent
