"""bench.py select: what it takes to find a cut, with every importance and for a budget."""

from __future__ import annotations

from collections.abc import Callable

from timing import alternating, ms

Rows = list[list[str]]
TARGET = "macs=0.4"


def select_rows(cfg: str, repeat: int, steps: Callable[[str], None]) -> Rows:
    """Measured, bare, ratio and target of every figure; bare is a percent by |γ|."""
    from pruning.channels import ChannelGraph
    from pruning.costs import Costs
    from pruning.importance import IMPORTANCES
    from pruning.recover import Folding
    from pruning.strategies import Wish, select
    from yolo.cfg import Cfg
    from yolo.network import Network
    from yolo.randomize import randomize

    steps("making up weights")
    network = Network(Cfg.load(cfg))
    randomize(network)
    graph, state = ChannelGraph(network), network.state()
    folding = Folding(graph, state)
    costs = Costs(graph)

    def chosen(wish: Wish) -> Callable[[], object]:
        return lambda: select(graph, state, wish, folding)

    def row(what: str, seconds: float, bare: float, target: str = "") -> list[str]:
        return [what, ms(seconds), ms(bare), f"{seconds / bare:.1f}", target]

    steps("budgets")
    percent = chosen(Wish("shortcut", 0.5))
    rows = []
    for target in (TARGET, f"{TARGET},params=0.3,bytes=0.3"):
        wish = Wish("shortcut", target=target)
        seconds, bare = alternating(repeat, chosen(wish), percent)
        rows.append(row(f"select --target {target}", seconds, bare, "1000 ms"))
    for name in IMPORTANCES:
        steps(name)
        seconds, bare = alternating(repeat, chosen(Wish("shortcut", 0.5, importance=name)), percent)
        rows.append(row(f"select --importance {name}", seconds, bare))
    seconds, bare = alternating(
        repeat, lambda: costs.of(~graph.pinned), lambda: Network(network.cfg).macs()
    )
    times = f"{1e6 * seconds:.0f} µs", ms(bare)
    return [*rows, ["costs of a cut, against building it", *times, f"{seconds / bare:.4f}", ""]]
