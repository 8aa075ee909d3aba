"""The whole way: cfg and weights → plan → cut → proof → files and report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from pruning.channels import ChannelGraph
from pruning.engines import Darknet, Engine, EngineError, OpenCV
from pruning.options import ENGINES
from pruning.plan import Plan
from pruning.recover import Fold, Folding
from pruning.report import Cost, Report, changes, cost
from pruning.strategies import STRATEGIES, Wish, prunable, select
from pruning.surgery import operate
from pruning.verify import SINGLE, Comparison, Proof, latency, prove_cut, prove_engine
from yolo.cfg import Cfg
from yolo.errors import DarknetError, WeightsError
from yolo.files import Writer, write_files
from yolo.network import Network
from yolo.randomize import check_memory, randomize
from yolo.weights import Header, load_weights, weights_writer

RANDOM = "random"  # random or random:SEED in place of a weights file


@dataclass(frozen=True)
class Job:
    """What a user asks for; `plan` takes the place of the wish where it is given.

    `verify` names the proofs to make (options.ENGINES), None all that are there; `runs` is how
    often latencies are measured, 0 not at all.
    """

    cfg: str
    weights: str
    wish: Wish
    fold: str = "auto"
    plan: str | None = None
    verify: tuple[str, ...] | None = None
    darknet: str | None = None
    runs: int = 5
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

    def writers(self, folder: Path, stem: str) -> list[tuple[Path, Writer]]:
        """What writes STEM.cfg, .weights and .json."""
        paths = result_files(folder, stem)
        report = self.report.to_json(paths).encode()
        return [
            (paths["cfg"], lambda file: file.write(self.smaller.cfg.to_bytes())),
            (paths["weights"], weights_writer(self.smaller, self.header)),
            (paths["json"], lambda file: file.write(report)),
        ]

    def write(self, folder: Path, stem: str) -> dict[str, Path]:
        """Write STEM.cfg, .weights and .json, all or none; raises DarknetError."""
        write_files(self.writers(folder, stem))
        return result_files(folder, stem)


def result_files(folder: Path, stem: str) -> dict[str, Path]:
    """The paths of a result's cfg, weights and report."""
    return {kind: folder / f"{stem}.{kind}" for kind in ("cfg", "weights", "json")}


def is_random(weights: str) -> bool:
    """Whether `random` or `random:SEED` stands in place of a weights file."""
    return weights.partition(":")[0] == RANDOM


def load(cfg: str, weights: str) -> tuple[Network, Header]:
    """A network with the tensors of a file, or with `random[:SEED]` ones.

    Raises DarknetError; WeightsError where sections are left without tensors.
    """
    network = Network(Cfg.load(cfg))
    if is_random(weights):
        seed = weights.partition(":")[2] or "0"
        if not seed.isdecimal():
            raise DarknetError(f"{weights}: expected {RANDOM} or {RANDOM}:SEED with a whole number")
        randomize(network, int(seed) % 2**63)
        return network, Header()
    header = load_weights(network, weights)
    for layer in network.layers:
        if any(tensor.is_meta for tensor in layer.stored().values()):
            raise WeightsError(
                f"{weights}: holds only a backbone: {layer.section.error('has none')}"
            )
    return network, header


def make_plan(job: Job, graph: ChannelGraph, folding: Folding) -> Plan:
    """The saved plan, or one that fulfils the wish; raises PlanError."""
    if job.plan is not None:
        return Plan.load(job.plan)
    return select(graph, folding.state, job.wish, folding)


def prune(job: Job) -> Result:
    """Prune in memory and prove it; raises DarknetError, and ProofError where the proof fails."""
    job.progress("reading")
    network, header = load(job.cfg, job.weights)
    if job.runs or job.verify != ():
        check_memory(network)
    state = network.state()
    job.progress("planning")
    graph = ChannelGraph(network)
    folding = Folding(graph, state, job.fold)
    plan = make_plan(job, graph, folding)
    fold = folding.fold(plan.alive(graph), plan.mean)
    job.progress("cutting")
    cfg, small = operate(graph, state, fold)
    untouched = bool(fold.kept.all() and not fold.carriers.any())
    smaller = Network.with_state(network.cfg if untouched else cfg.strict(), small)
    proof = _prove(job, graph, fold, smaller)
    before, after = (_measured(job, net, header) for net in (network, smaller))
    report = Report(
        job.cfg,
        job.weights,
        plan.strategy,
        plan.percent,
        job.fold,
        _in_question(replace(job.wish, strategy=plan.strategy), graph, fold),
        before,
        after,
        proof,
        changes(graph, smaller, fold),
    )
    return Result(plan, graph, fold, smaller, header, report)


def _in_question(wish: Wish, graph: ChannelGraph, fold: Fold) -> tuple[int, int] | None:
    """The channels that the percent is a share of, before and after.

    None for a plan of a strategy that isn't known here.
    """
    if wish.strategy not in STRATEGIES:
        return None
    allowed = prunable(graph, wish)
    return graph.count(allowed), graph.count(allowed & fold.kept)


def _prove(job: Job, graph: ChannelGraph, fold: Fold, smaller: Network) -> Proof:
    wanted = tuple(ENGINES) if job.verify is None else job.verify
    masked, difference = Comparison(None, "not run"), Comparison(None, "not run")
    if "torch" in wanted:
        job.progress("comparing with the masked network")
        state = graph.network.state()
        masked, difference = prove_cut(graph, state, fold, smaller.cfg, smaller.state())
        if difference.value is not None and difference.value > SINGLE and not masked.note:
            difference = replace(difference, note="see the constants of each section")
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
        found[name] = prove_engine(engine, graph.network, smaller)
    return Proof(masked, difference, found)


def _measured(job: Job, network: Network, header: Header) -> Cost:
    times: dict[str, float | None] = {"torch": None, "opencv": None}
    if job.runs:
        job.progress("measuring")
        times["torch"] = latency(network, job.runs)
        try:
            engine = OpenCV(torch.get_num_threads())
            times["opencv"] = engine.latency(network.cfg, network, job.runs)
        except EngineError:
            times["opencv"] = None
    return cost(network, header, times)
