"""bench.py peers: what Torch-Pruning's rules keep of mAP or top-1, without any training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.timing import Rows, alternating
from yolo.errors import DarknetError

if TYPE_CHECKING:
    from yolo.evaluation.results import Evaluation
    from yolo.network import Network


def peers_rows(
    cfg: str,
    weights: str | None,
    data: str | None,
    shares: Sequence[float],
    steps: Callable[[str], None],
) -> Rows:
    """A row a rule and share of the MACs; measured is the cut's score, bare the original's."""
    if weights is None or data is None:
        raise DarknetError("peers: needs --weights and --data")
    from bench.peers import MISSING, RULES, installed
    from yolo.models.load import load_model

    if not installed():
        return [MISSING]
    network = load_model(cfg, weights)[0].plain()
    metric = _metric(network, Path(data))
    steps("evaluating the original")
    original = metric(network)
    return [row for rule in RULES for row in _rows(rule, network, shares, metric, original, steps)]


def _metric(network: Network, path: Path) -> Callable[[Network], Evaluation]:
    from yolo.datasets import sources
    from yolo.evaluation.evaluate import check_classes, evaluate
    from yolo.evaluation.loader import evaluation_loader

    data = sources.load(path)
    check_classes(network, data)
    return lambda cut: evaluate(cut, evaluation_loader(data, network.cfg))


def _rows(
    rule: str,
    network: Network,
    shares: Sequence[float],
    metric: Callable[[Network], Evaluation],
    original: Evaluation,
    steps: Callable[[str], None],
) -> Rows:
    """One graph and one sequence of steps for all shares, the largest first."""
    from bench.peers import Peer, reason

    name = f"Torch-Pruning, {rule}"
    steps(f"{name}: graph")
    try:
        peer = Peer(network, rule)
    except Exception as error:  # whatever it can't do is a result
        return [[f"{name}: graph", "", "", "", reason(error)]]
    (graph,) = alternating(1, peer.build_graph)
    rows = [[f"{name}: graph", f"{graph:.2f} s", "", "", ""]]
    seconds = 0.0
    for share in sorted(shares, reverse=True):
        title = f"{name}, macs={share:g}"
        steps(title)
        start = time.perf_counter()
        try:
            count = peer.cut(share)
            seconds += time.perf_counter() - start
            score = metric(peer.network).score
        except Exception as error:
            rows.append([title, "", "", "", reason(error)])
            if isinstance(error, DarknetError):
                continue
            break  # what is half cut tells nothing
        kept = f"{score / original.score:.3f}" if original.score else ""
        reached = f"{peer.macs:.4f} of the MACs, {count} steps in {seconds:.1f} s"
        rows.append([title, f"{score:.4f}", f"{original.score:.4f}", kept, reached])
    return rows
