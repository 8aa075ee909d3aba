"""Blocks that go as a whole: which of them are chosen, and for what."""

from __future__ import annotations

import pytest
from block_cuts import measures, network
from cfgs import HEAD, RESIDUAL, conv, net, route, shortcut
from networks import build
from specs import spec

from pruning.cut.blocks import remove, residual_blocks
from pruning.registry import STRATEGIES
from pruning.selection.blocks import BlockSchedule, block_scores, choose_blocks
from yolo.errors import PlanError
from yolo.models.weights import Header, weights_size
from yolo.network import Network

__all__ = ["network"]  # a fixture
COUNTED = ("channels", "parameters", "macs", "bytes")
BLOCK_STRATEGIES = [name for name, entry in STRATEGIES.items() if entry.takes_blocks]
NET = net(12, 10)
# the first block lies within the second
NESTED = NET + conv() + conv() + RESIDUAL + conv() + shortcut(0) + RESIDUAL + HEAD


def chosen(network: Network, blocks: int | None = None, strategy: str = "layer", **more: object):
    """The shortcuts of the blocks that go."""
    asked = spec(strategy, blocks=blocks, **more)
    return [b.shortcut for b in choose_blocks(network, asked, measures)]


def costs_of(network: Network) -> dict[str, int]:
    """What a network costs, of itself."""
    kept = [s.out_shape.channels for s in network.layers if s.section.type in FILTERS]
    return {
        "channels": sum(kept),
        "parameters": network.count_parameters(),
        "macs": network.macs(),
        "bytes": weights_size(network, Header()),
    }


FILTERS = ("convolutional", "connected")


def without(network: Network, shortcuts: list[int]) -> Network:
    blocks = [b for b in residual_blocks(network) if b.shortcut in shortcuts]
    removal = remove(network, network.state(), blocks)
    return Network.with_state(removal.cfg, removal.state)


def test_blocks_go_by_rising_score(network):
    scores = block_scores(network, network.state())
    order = sorted(scores, key=scores.__getitem__)
    assert len(order) == 4
    for count in range(1, 5):
        for strategy in BLOCK_STRATEGIES:
            percent = 0.5 if strategy != "layer" else None
            assert chosen(network, count, strategy, percent=percent) == sorted(order[:count])


@pytest.mark.parametrize("name", COUNTED)
def test_a_budget_takes_no_block_too_many(network, name):
    """Costs are those of networks that are built; shares are of the whole one."""
    scores = block_scores(network, network.state())
    order = sorted(scores, key=scores.__getitem__)
    costs = [costs_of(without(network, order[:n]))[name] for n in range(5)]
    assert costs == sorted(costs, reverse=True)
    for count in range(5):
        exact, less = costs[count], costs[count] - 1
        assert chosen(network, target=f"{name}={exact}") == sorted(order[:count])
        if count < 4:
            assert chosen(network, target=f"{name}={less}") == sorted(order[: count + 1])
        if count:
            share = (costs[count] + costs[count - 1]) / 2 / costs[0]
            assert chosen(network, target=f"{name}={share:.6f}") == sorted(order[:count])
    reach = f"layer leaves at least {name}={costs[4]}, without all blocks that can go \\(4\\)"
    with pytest.raises(PlanError, match=reach):
        chosen(network, target=f"{name}={costs[4] - 1}")


def test_several_targets(network):
    alone = {t: chosen(network, target=t) for t in ("macs=0.8", "params=0.75")}
    both = chosen(network, target=",".join(alone))
    assert both == max(alone.values(), key=len)


def test_measured_costs_count_each_network(network):
    """An estimate is measured at once: networks without blocks are few."""

    asked = []

    class Slow:
        def __init__(self, graph):
            self.sections = len(graph.network.layers)

        def __call__(self, plan, fold):
            raise AssertionError("guessed")

        def measure(self, plan, fold):
            assert fold.kept.all()
            asked.append(self.sections)
            return float(self.sections)

    asked_ = spec("layer", target="ms=20")
    sections = len(network.layers)
    blocks = choose_blocks(network, asked_, lambda shortened, folding: {"ms": Slow(folding.graph)})
    assert sections - 3 * len(blocks) <= 20 < sections - 3 * (len(blocks) - 1)
    assert len(set(asked)) == len(asked) > 1


def test_what_goes_with_another_block_is_no_block_more():
    network = build(NESTED)
    assert [b.shortcut for b in residual_blocks(network)] == [4, 6, 9]

    def scored(**scores):
        state = network.state()
        for section, score in scores.items():
            state[int(section[1:])]["scales"].fill_(score)
        return len(BlockSchedule(network, spec("layer", blocks=1))), chosen(network, 2)

    # 6 ends with section 5, 4 with 3, 9 with 8
    assert scored(s3=1.0, s5=2.0, s8=3.0) == (3, [4, 6])
    assert scored(s3=2.0, s5=1.0, s8=3.0) == (2, [6, 9])


def test_spared_blocks_stay(network):
    everything = [b.shortcut for b in residual_blocks(network)]
    first = residual_blocks(network)[0]
    for section in (first.shortcut, first.sections[0]):
        assert chosen(network, 3, spare=(section,)) == everything[1:]
        assert chosen(network, 1, only=(section,)) == everything[:1]
        with pytest.raises(PlanError, match=r"blocks 4 is out of reach: .*: layer can remove 3"):
            chosen(network, 4, spare=(section,))


@pytest.mark.parametrize(
    ("text", "asked_", "message"),
    [
        (NET + conv(), {}, "x.cfg: no block can go: there is no [shortcut]"),
        (
            NET + conv() + route(0) + shortcut(0),
            {},
            "x.cfg: no block can go: that of section 2: it adds the output of section 0 to itself",
        ),
        (
            NET + conv() + RESIDUAL,
            {"spare": (2,)},
            "x.cfg: no block can go: that of section 3: it is spared",
        ),
        (NET + conv() + RESIDUAL, {"spare": (9,)}, "--spare 9: sections are numbered from 0 to 3"),
        (NET + conv() + RESIDUAL + route(0), {"only": (4,)}, "neither filters nor a block"),
        (NET + conv() + RESIDUAL, {"only": (0,)}, "it isn't among what may go"),
        (
            NET + conv() + conv(2, 1) + conv() + shortcut(-3) + route(1),
            {"only": (3,)},
            "x.cfg:23: [shortcut] --only 3: can't go: section 1 of its branch feeds section 4",
        ),
        (NET + conv() + RESIDUAL, {"blocks": 0}, "blocks 0: expected at least 1"),
        (NET + conv() + RESIDUAL, {"blocks": 2}, "blocks 2 is out of reach: x.cfg: layer can"),
        (NET + conv() + RESIDUAL, {"keep_min": 2}, "keep-min has no effect with layer"),
        (NET + conv() + RESIDUAL, {"group": "max"}, "layer ranks no channels"),
        (NET + conv() + RESIDUAL, {"percent": 0.3}, "layer doesn't take blocks and percent"),
        (NET + conv() + RESIDUAL, {"blocks": None, "percent": 0.5}, "use --blocks N, or --target"),
        (NET + conv() + RESIDUAL, {"target": "macs=0.5"}, "layer doesn't take blocks and targets"),
        (
            NET + conv() + RESIDUAL,
            {"strategy": "slim+layer", "blocks": None, "percent": 0.5},
            "slim+layer doesn't take percent: use --blocks N with",
        ),
        (
            NET + conv() + RESIDUAL,
            {"strategy": "slim"},
            "slim doesn't take blocks: use --percent 0.5",
        ),
    ],
)
def test_specs_that_cannot_be_met(text, asked_, message):
    with pytest.raises(PlanError) as caught:
        chosen(build(text), **({"blocks": 1} | asked_))
    assert message in str(caught.value)


def test_only_the_first_reasons_are_reported():
    network = build(NET + conv() + (route(0) + shortcut(0)) * 5)
    with pytest.raises(PlanError, match=r"section 2: .*; that of section 6: .*; 2 more$"):
        chosen(network, 1)


def test_strategies_without_blocks_take_none(network):
    assert chosen(network, None, "slim", percent=0.5) == []
