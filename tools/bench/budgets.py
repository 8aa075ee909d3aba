"""bench.py select: what it takes to find a cut, with every importance and for a budget."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.timing import Rows, alternating, ms

if TYPE_CHECKING:
    from pruning.cut.folding import Folding

TARGET = "macs=0.4"
SCANNED, IMAGES = (6, 18), 64  # sections of the digits' network, and images that evaluate it
SHARE = 0.4  # of the channels that Torch-Pruning takes at once, and so about half of the MACs


def select_rows(cfg: str, repeat: int, steps: Callable[[str], None]) -> Rows:
    """Measured, bare, ratio and target of every figure; bare is a percent by |γ|."""
    from pruning.cut.folding import Folding
    from pruning.graph.channels import ChannelGraph
    from pruning.measure.costs import Costs
    from pruning.registry import IMPORTANCES
    from pruning.selection.importance import Model
    from pruning.selection.select import select
    from pruning.spec import Percent, Ranking, Spec, Targets
    from yolo.cfg import Cfg
    from yolo.models.randomize import randomize
    from yolo.network import Network

    steps("making up weights")
    network = Network(Cfg.load(cfg))
    randomize(network)
    graph, state = ChannelGraph(network), network.state()
    folding = Folding(graph, state)
    costs = Costs(graph)

    def chosen(spec: Spec) -> Callable[[], object]:
        return lambda: select(Model(graph, state), spec, folding)

    def row(name: str, seconds: float, bare: float, target: str = "") -> list[str]:
        return [name, ms(seconds), ms(bare), f"{seconds / bare:.1f}", target]

    steps("budgets")
    percent = chosen(Spec("shortcut", Percent(0.5)))
    rows = []
    for target in (TARGET, f"{TARGET},params=0.3,bytes=0.3"):
        spec = Spec("shortcut", Targets.parse(target))
        seconds, bare = alternating(repeat, chosen(spec), percent)
        rows.append(row(f"select --target {target}", seconds, bare, "1000 ms"))
    for name, entry in IMPORTANCES.items():
        if entry.needs:
            continue  # what they look at takes longer than any choice
        steps(name)
        spec = Spec("shortcut", Percent(0.5), Ranking(importance=name))
        seconds, bare = alternating(repeat, chosen(spec), percent)
        rows.append(row(f"select --importance {name}", seconds, bare))
    seconds, bare = alternating(
        repeat, lambda: costs.of(~graph.pinned), lambda: Network(network.cfg).macs()
    )
    times = f"{1e6 * seconds:.0f} µs", ms(bare)
    rows.append(["costs of a cut, against building it", *times, f"{seconds / bare:.4f}", ""])
    steps("scan")
    rows.append(_scan(repeat))
    steps("Torch-Pruning")
    return rows + _torch_pruning(folding, repeat)


def _scan(repeat: int) -> list[str]:
    """Time of a point of a scan; bare is one evaluation of the original's heads."""
    import torch

    from pruning.cut.folding import Folding
    from pruning.graph.channels import ChannelGraph
    from pruning.measure.head_error import HeadError
    from pruning.selection.sensitivity import Scan, scan
    from pruning.spec import Limits, Percent, Spec
    from yolo.models.load import load_model
    from yolo.models.randomize import smooth_noise

    top = Path(__file__).resolve().parents[2]
    network, _ = load_model(str(top / "cfg/digits.cfg"), str(top / "weights/digits.weights"))
    metric = HeadError(network, smooth_noise(network.image, IMAGES, torch.Generator()))
    folding = Folding(ChannelGraph(network), network.state())
    spec = Spec("shortcut", Percent(0.5), limits=Limits(only=SCANNED))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.json"

        def scan_anew() -> None:
            path.unlink(missing_ok=True)
            scan(path, folding, spec, metric, "noise")

        seconds, bare = alternating(
            repeat, scan_anew, lambda: metric.scored(network, lambda _: None)
        )
        scanned = Scan.load(path)
    assert scanned is not None
    points = 1 + sum(len(curve.losses) for curve in scanned.curves.values())
    title = f"a point of a scan of the digits' network, {IMAGES} images"
    return [title, ms(seconds / points), ms(bare), f"{seconds / points / bare:.2f}", "1.2"]


def _torch_pruning(folding: Folding, repeat: int) -> Rows:
    """Times of Torch-Pruning; bare is our graph, and our choice and cut to the same MACs."""
    from bench.peers import MISSING, Peer, installed, reason
    from pruning.cut.surgery import operate
    from pruning.graph.channels import ChannelGraph
    from pruning.selection.importance import Model
    from pruning.selection.select import select
    from pruning.spec import Spec, Targets

    if not installed():
        return [MISSING]
    original, state = folding.graph, folding.state
    try:
        peer = Peer(original.network, "magnitude", SHARE, steps=1)
        graph, bare = alternating(repeat, peer.build_graph, lambda: ChannelGraph(original.network))
        start = time.perf_counter()
        peer.step()
        step = time.perf_counter() - start  # once: it would go on from here
    except Exception as error:  # whatever it can't do is a result
        return [["Torch-Pruning", "", "", "", reason(error)]]
    rows = [["Torch-Pruning: graph", ms(graph), ms(bare), f"{graph / bare:.1f}", ""]]
    spec = Spec("shortcut", Targets.parse(f"macs={peer.macs}"))

    def cut() -> None:
        plan = select(Model(original, state), spec, folding)
        operate(original, state, folding.fold(plan.alive(original), plan.mean))

    (bare,) = alternating(repeat, cut)
    title = f"Torch-Pruning: one step to {peer.macs:.2f} of the MACs"
    return [*rows, [title, ms(step), ms(bare), f"{step / bare:.1f}", ""]]
