"""Blocks that go as a whole, alone or before channels: as a wish, a plan, a command."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import random_blocks
import random_cfg
import torch
from cfgs import HEAD, RESIDUAL, conv, net, plain, route, shortcut
from command_line import Ended
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from networks import build, random_input
from paths import ROOT
from pruned_files import Model, check_files, files, ours, written
from pruning.options import BLOCK_STRATEGIES

from pruning.calibration.recovery import head_error, recover
from pruning.cut.blocks import block_scores, remove, residual_blocks, silenced
from pruning.cut.folding import Folding
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shorter
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Costs
from pruning.proof.verify import noise_image, relative
from pruning.selection import Wish, choose_blocks
from pruning.selection.blocks import CHANNELS, BlockWay
from pruning.session import Job, prune
from yolo.cfg import Cfg
from yolo.errors import DarknetError, PlanError
from yolo.models.weights import Header, load_weights, save_weights, weights_size
from yolo.network import Network

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=25)
DIGITS = ROOT / "cfg" / "digits.cfg", ROOT / "weights" / "digits.weights"
MODEL = ("--cfg", DIGITS[0], "--weights", DIGITS[1])
COUNTED = ("channels", "params", "macs", "bytes")
# the first block lies within the second
NET = net(12, 10)
NESTED = NET + conv() + conv() + RESIDUAL + conv() + shortcut(0) + RESIDUAL + HEAD


def digits(strategy: str, **more: object) -> Job:
    return Model(*map(str, DIGITS)).job(strategy, **more)


def layer(**more: object) -> Job:
    return digits("layer", percent=more.pop("percent", 0.0), **more)


def measures(shorter, folding):
    return Costs(folding.graph).measures()


def chosen(network: Network, blocks: int | None = None, strategy: str = "layer", **more: object):
    """The shortcuts of the blocks that go."""
    asked = {"percent": None if "target" in more else 0.0, "blocks": blocks} | more
    return [b.shortcut for b in choose_blocks(network, Wish(strategy, **asked), measures)]


def spent(network: Network) -> dict[str, int]:
    """What a network costs, of itself."""
    kept = [s.out_shape.channels for s in network.layers if s.section.type in FILTERS]
    return {
        "channels": sum(kept),
        "params": network.count_parameters(),
        "macs": network.macs(),
        "bytes": weights_size(network, Header()),
    }


FILTERS = ("convolutional", "connected")


def without(network: Network, shortcuts: list[int]) -> Network:
    blocks = [b for b in residual_blocks(network) if b.shortcut in shortcuts]
    removal = remove(network, network.state(), blocks)
    return Network.with_state(removal.cfg, removal.state)


def silent(network: Network, shortcuts: tuple[int, ...], x: torch.Tensor) -> list[torch.Tensor]:
    """What enters the heads where these branches add nothing."""
    blocks = [b for b in residual_blocks(network) if b.shortcut in shortcuts]
    heads = network.head_inputs
    with torch.no_grad():
        found = silenced(network, network.state(), blocks)(x, collect=heads)
    return [found[i] for i in heads]


def entering(network: Network, x: torch.Tensor) -> list[torch.Tensor]:
    heads = network.head_inputs
    with torch.no_grad():
        found = network(x, collect=heads)
    return [found[i] for i in heads]


def differ(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return relative(dict(enumerate(found)), dict(enumerate(expected)))


@pytest.fixture(scope="module")
def network() -> Network:
    found = Network(Cfg.load(DIGITS[0]))
    load_weights(found, DIGITS[1])
    return found


# Which blocks go


def test_the_strategies_are_those_that_are_said():
    assert list(CHANNELS) == list(BLOCK_STRATEGIES)


def test_blocks_go_by_rising_score(network):
    scores = block_scores(network, network.state())
    order = sorted(scores, key=scores.__getitem__)
    assert len(order) == 4
    for count in range(1, 5):
        for strategy in BLOCK_STRATEGIES:
            percent = 0.5 if strategy != "layer" else 0.0
            assert chosen(network, count, strategy, percent=percent) == sorted(order[:count])


@pytest.mark.parametrize("name", COUNTED)
def test_a_budget_takes_no_block_too_many(network, name):
    """Costs are those of networks that are built; shares are of the whole one."""
    scores = block_scores(network, network.state())
    order = sorted(scores, key=scores.__getitem__)
    costs = [spent(without(network, order[:n]))[name] for n in range(5)]
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

        def settle(self, plan, fold):
            assert fold.kept.all()
            asked.append(self.sections)
            return float(self.sections)

    wish = Wish("layer", target="ms=20")
    sections = len(network.layers)
    blocks = choose_blocks(network, wish, lambda shorter, folding: {"ms": Slow(folding.graph)})
    assert sections - 3 * len(blocks) <= 20 < sections - 3 * (len(blocks) - 1)
    assert len(set(asked)) == len(asked) > 1


def test_what_goes_with_another_block_is_no_block_more():
    network = build(NESTED)
    assert [b.shortcut for b in residual_blocks(network)] == [4, 6, 9]

    def scored(**scores):
        state = network.state()
        for section, score in scores.items():
            state[int(section[1:])]["scales"].fill_(score)
        return len(BlockWay(network, Wish("layer", 0.0))), chosen(network, 2)

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
    ("text", "wish", "message"),
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
        (NET + conv() + RESIDUAL, {"keep_min": 2}, "layer takes whole blocks"),
        (NET + conv() + RESIDUAL, {"group": "max"}, "layer takes whole blocks"),
        (NET + conv() + RESIDUAL, {"percent": 0.3}, "layer takes whole blocks"),
        (NET + conv() + RESIDUAL, {"blocks": None}, "layer: expected a number of blocks or a"),
        (NET + conv() + RESIDUAL, {"target": "macs=0.5", "percent": None}, "not both"),
        (
            NET + conv() + RESIDUAL,
            {"strategy": "slim+layer", "blocks": None},
            "slim+layer: expected a number of blocks",
        ),
        (NET + conv() + RESIDUAL, {"strategy": "slim"}, "blocks 1: slim takes no blocks"),
    ],
)
def test_wishes_that_cannot_be_fulfilled(text, wish, message):
    with pytest.raises(PlanError) as caught:
        chosen(build(text), **({"blocks": 1} | wish))
    assert message in str(caught.value)


def test_only_the_first_reasons_are_told():
    network = build(NET + conv() + (route(0) + shortcut(0)) * 5)
    with pytest.raises(PlanError, match=r"section 2: .*; that of section 6: .*; 2 more$"):
        chosen(network, 1)


def test_strategies_without_blocks_take_none(network):
    assert chosen(network, None, "slim", percent=0.5) == []


# The whole way


@st.composite
def models(draw):
    """A random network with blocks that can go, and how many of them do."""
    sample = random_cfg.sample(draw(random_blocks.cfg_texts()), draw(st.integers(0, 2**16)))
    state = {i: {n: t.float() for n, t in ts.items()} for i, ts in sample.state.items()}
    network = Network.with_state(sample.network.cfg, state)
    if all(block.reason for block in residual_blocks(network)):
        reject()
    most = len(BlockWay(network, Wish("layer", 0.0)))
    return network, draw(st.integers(1, most)), draw(st.sampled_from(tuple(BLOCK_STRATEGIES)))


@SLOW
@given(models())
def test_every_network_is_proven_and_planned_again(tmp_path_factory, found):
    network, blocks, strategy = found
    folder = tmp_path_factory.mktemp("layer")
    network.cfg.write(folder / "x.cfg")
    save_weights(network, folder / "x.weights")
    model = Model(str(folder / "x.cfg"), str(folder / "x.weights"))
    percent = 0.0 if strategy == "layer" else 0.25
    try:
        result = written(model.job(strategy, percent, blocks=blocks), folder / "out")
    except DarknetError as error:
        # a share of almost nothing, or numbers that grow without limit
        if re.search("out of reach|nothing that it may cut|not finite", str(error)):
            reject()
        raise
    smaller = check_files(result, folder / "out")
    assert len(result.plan.blocks) == blocks
    x = noise_image(network)
    if strategy == "layer":
        assert differ(entering(smaller, x), silent(network, result.plan.blocks, x)) <= 1e-4
    result.plan.save(folder / "plan.json")
    plan = Plan.load(folder / "plan.json")
    assert plan == result.plan
    # sections are those of the whole network
    assert plan.keep.keys() <= set(range(len(network.layers)))
    for section, kept in plan.keep.items():
        assert max(kept) < network.layers[section].out_shape.channels
    again = written(model.job(plan=str(folder / "plan.json")), folder / "again")
    assert again.report.strategy == strategy
    assert files(folder / "out") == files(folder / "again")


def test_layer_computes_what_silent_branches_leave(network, tmp_path):
    job = layer(blocks=3, verify=("torch", "opencv"))
    result = written(job, tmp_path)
    smaller = check_files(result, tmp_path)
    x = noise_image(network)
    assert differ(entering(smaller, x), silent(network, result.plan.blocks, x)) <= 1e-6
    proof = result.report.proof
    assert proof.blocks.value <= 1e-6
    assert proof.masked_vs_compact.value == proof.fold_difference.value == 0
    assert proof.engines["opencv"].value <= 1e-4
    assert result.report.layers == []
    assert [b.shortcut for b in result.report.blocks] == list(result.plan.blocks)


def test_reports_tell_what_went(network):
    report = prune(layer(blocks=2, verify=())).report
    assert dataclasses.replace(report.before, latency_ms={}) == dataclasses.replace(
        prune(digits("slim", percent=0.0, verify=())).report.before, latency_ms={}
    )
    assert report.proof.blocks.note == "not run"
    gone = [b.macs for b in report.blocks]
    assert report.before.macs - report.after.macs == sum(gone) > 0
    lost = sum(b.parameters for b in report.blocks)
    assert report.before.parameters - report.after.parameters == lost > 0
    scores = block_scores(network, network.state())
    for block in report.blocks:
        assert block.score == scores[block.shortcut]
        first, last = block.sections[0], block.sections[-1]
        assert f" {first}-{last} " in report.tables()
    data = json.loads(report.to_json({"cfg": Path("x"), "weights": Path("x")}))
    assert [b["shortcut"] for b in data["blocks"]] == [b.shortcut for b in report.blocks]
    assert data["percent"] == 0
    assert data["reached"] is None


def test_shares_are_of_the_whole_network(network):
    """Blocks and channels together come to half, though not one channel more goes."""
    job = digits("slim+layer", percent=None, blocks=2, target="macs=0.5", verify=())
    report = prune(job).report
    assert 0.49 < report.after.macs / network.macs() <= 0.5
    assert report.target == "macs=0.5"
    # what blocks do alone takes no channel
    easy = prune(digits("slim+layer", percent=None, blocks=2, target="macs=0.9", verify=()))
    assert easy.report.layers == []
    assert easy.plan.keep == {}


def test_channels_are_those_of_what_is_left(network):
    """As if the network without blocks had been given; sections keep their numbers."""
    both = prune(digits("slim+layer", percent=0.4, blocks=2))
    shorter = both.shorter
    first = prune(layer(blocks=2)).smaller
    assert first.cfg.to_bytes() == shorter.network.cfg.to_bytes()
    names = {shorter.places[i]: i for i in shorter.kept}
    for change in both.report.layers:
        place = shorter.places[change.index]
        assert names[place] == change.index
        assert change.before == network.layers[change.index].out_shape.channels
        assert change.after == both.smaller.layers[place].out_shape.channels
    assert {c.index for c in both.report.layers} == set(both.plan.keep)


def test_spared_sections_keep_their_numbers(network):
    """A section behind blocks that went is the one that the whole network names so."""
    section = 18
    for more in ({"spare": (section,)}, {"only": (11, 14, section)}):
        result = prune(digits("slim+layer", percent=0.2, blocks=1, verify=(), **more))
        cut = {change.index for change in result.report.layers}
        assert (section in cut) == ("only" in more)
        assert result.plan.blocks in ((13,), (16,))


def test_a_plan_may_take_blocks_and_channels_by_hand(tmp_path):
    plan = Plan("slim", 0.0, {18: tuple(range(40))}, blocks=(16,))
    plan.save(tmp_path / "plan.json")
    result = prune(digits("slim", plan=str(tmp_path / "plan.json")))
    assert [c.index for c in result.report.layers] == [18]
    assert result.smaller.layers[15].out_shape.channels in (40, 41)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"blocks": [12]}, "plan: block 12: there is no [shortcut] of this number"),
        ({"blocks": [99]}, "plan: block 99: there is no"),
        ({"blocks": 16}, "not a plan"),
        ({"blocks": ["16"]}, "not a plan"),
        ({"blocks": [16], "keep": {"14": [0]}}, "plan: section 14 doesn't exist, or goes with"),
        ({"blocks": [16], "mean": [[14, 0]]}, "plan: section 14 doesn't exist, or goes with"),
    ],
)
def test_plans_that_cannot_be_followed(tmp_path, plan, message):
    data = {"strategy": "layer", "percent": 0, "keep": {}} | plan
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(PlanError) as caught:
        prune(digits("slim", plan=str(tmp_path / "plan.json")))
    assert message in str(caught.value)


def test_what_stays_of_a_block_is_named_as_its_shortcut(tmp_path):
    """Its activation, in a depthwise convolution that loses the channels that its skip loses."""
    text = (
        NET
        + conv(8)
        + RESIDUAL.replace("filters=4", "filters=8").replace("linear", "leaky")
        + conv(6)
        + HEAD
    )
    network = build(text.replace("=12", "=32", 1).replace("=10", "=32", 1))
    network.cfg.write(tmp_path / "x.cfg")
    save_weights(network, tmp_path / "x.weights")
    model = Model(str(tmp_path / "x.cfg"), str(tmp_path / "x.weights"))
    result = prune(model.job("slim+layer", 0.4, blocks=1, verify=("torch", "opencv")))
    assert result.plan.keep[3] == result.plan.keep[0]
    assert {0, 3} <= {c.index for c in result.report.layers}
    assert result.report.blocks[0].stays
    assert result.report.proof.engines["opencv"].value <= 1e-4


@pytest.mark.parametrize(("name", "strategy"), [("resnet18", "layer"), ("resnet18", "slim+layer")])
def test_real_cfgs(name, strategy, tmp_path):
    percent = 0.0 if strategy == "layer" else 0.3
    job = ours(name, 64, tmp_path).job(strategy, percent, blocks=3, verify=("torch", "opencv"))
    result = written(job, tmp_path)
    check_files(result, tmp_path)
    assert len(result.report.blocks) == 3
    assert result.report.proof.engines["opencv"].value <= 1e-4


def test_a_shorter_network_is_itself_without_blocks(network):
    shorter = Shorter.of(network, ())
    assert shorter.network is network
    assert shorter.origins == {i: i for i in range(len(network.layers))}
    plan = Plan("slim", 0.5, {2: (0,)}, ((2, 0),))
    assert shorter.inner(plan) == shorter.outer(plan) == plan


def test_numbers_go_there_and_back(network):
    for count in range(1, 5):
        blocks = [b for b in residual_blocks(network) if not b.reason][:count]
        shorter = Shorter.of(network, blocks)
        graph = ChannelGraph(shorter.network)
        keep = dict.fromkeys(graph.producers, (0,))
        mean = tuple((i, 0) for i in graph.producers)
        plan = Plan("slim+layer", 0.5, keep, mean)
        outer = shorter.outer(plan)
        assert outer.blocks == tuple(b.shortcut for b in blocks)
        assert shorter.inner(outer) == dataclasses.replace(plan, blocks=outer.blocks)
        for place, section in shorter.origins.items():
            old, new = network.layers[section], shorter.network.layers[place]
            assert old.out_shape == new.out_shape
            assert old.section.type == new.section.type


# What blocks did is made up for


@SLOW
@given(models(), st.sampled_from(("bn", "reconstruct")))
def test_what_the_whole_network_gave_is_the_aim(found, method):
    """Cut channels or not, the rest never does worse; all that is equal stays as it is."""
    network, blocks, strategy = found
    wish = Wish("layer", 0.0, blocks=blocks)
    shorter = Shorter.of(network, choose_blocks(network, wish, measures))
    graph = ChannelGraph(shorter.network)
    alive = np.ones(graph.size, bool)
    for family in graph.families if strategy != "layer" else ():
        alive[family.groups[:, (family.slots + 1) // 2 :]] = False
    fold = Folding(graph, shorter.network.state()).fold(alive)
    cfg, state = operate(graph, shorter.network.state(), fold)
    smaller = Network.with_state(cfg, state)
    x = random_input(network, 16).sigmoid()
    if not all(out.isfinite().all() for out in entering(network, x)):
        reject()
    better, recovery = recover(method, graph, fold, smaller, x, shorter=shorter)
    judges = x[7::8]
    error = head_error(network, better, judges, shorter.places)
    assert error <= recovery.before or not np.isfinite(recovery.before)
    first = min(i for block in shorter.blocks for i in block.sections)
    for i in range(first if strategy == "layer" else 0):
        for name, tensor in smaller.state().get(i, {}).items():
            assert torch.equal(better.state()[i][name], tensor)


def test_a_block_whose_branch_is_linear_is_made_up_for():
    """What comes next can do the block's work where that is a 1x1 convolution of the skip."""
    network = build(NET + conv() + plain(4) + shortcut(0) + plain(6))
    shorter = Shorter.of(network, residual_blocks(network))
    graph = ChannelGraph(shorter.network)
    fold = Folding(graph, shorter.network.state()).fold(np.ones(graph.size, bool))
    x = random_input(network, 32).sigmoid()
    _, recovery = recover("reconstruct", graph, fold, shorter.network, x, shorter=shorter)
    assert recovery.before > 0.05
    assert recovery.after < 0.01 * recovery.before


def test_the_command_makes_up_for_blocks(network, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(16):
        coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (96, 96)))
    result = prune(layer(blocks=1, calibrate=str(folder)))
    assert result.report.recovery.after < result.report.recovery.before


# The command


@pytest.fixture
def pruned(command, monkeypatch, tmp_path) -> Callable[..., Ended]:
    monkeypatch.chdir(tmp_path)
    return lambda *more: command.run("prune", *MODEL, "--runs", 0, "--verify", "torch", *more)


@pytest.mark.parametrize(
    ("options", "stem"),
    [
        (("layer", "--blocks", 2), "digits-layer-2"),
        (("layer", "--target", "macs=0.8"), "digits-layer-macs0.8"),
        (("slim+layer", "--blocks", 1), "digits-slim+layer-1-0.5"),
        (("slim+layer", "--blocks", 2, "--target", "params=.3"), "digits-slim+layer-2-params.3"),
    ],
)
def test_the_command(pruned, options, stem):
    more = ("--json", "x.json", "--save-plan", "p.json", "--figures", "figures")
    ended = pruned("--strategy", *options, *more)
    assert ended.code == 0, ended.err
    assert "blocks that are gone" in ended.out
    made = {path.name for path in Path("pruned").iterdir()}
    assert made == {f"{stem}.{kind}" for kind in ("cfg", "weights", "json")}
    assert Path("figures", f"{stem}-channels.png").stat().st_size > 1000
    report = json.loads(Path("x.json").read_text())
    assert report["strategy"] == options[0]
    assert report["proof"]["blocks"] <= 1e-6
    plan = json.loads(Path("p.json").read_text())
    assert plan["blocks"] == [block["shortcut"] for block in report["blocks"]]
    again = pruned("--plan", "p.json", "--name", "again")
    assert again.code == 0, again.err
    for kind in ("cfg", "weights"):
        first, second = (Path("pruned", f"{name}.{kind}") for name in (stem, "again"))
        assert first.read_bytes() == second.read_bytes()


def test_a_dry_run_writes_the_plan_only(pruned):
    ended = pruned("--strategy", "layer", "--blocks", 1, "--dry-run", "--save-plan", "p.json")
    assert ended.code == 0, ended.err
    assert "blocks that are gone" in ended.out
    assert [path.name for path in Path().iterdir()] == ["p.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("layer",), "layer: expected a number of blocks or a target"),
        (("layer", "--blocks", 9), "layer can remove 4"),
        (("layer", "--blocks", 0), "blocks 0: expected at least 1"),
        (("layer", "--blocks", "x"), "invalid int value"),
        (
            ("layer", "--blocks", 1, "--percent", 0.5),
            "--percent 0.5: the strategy layer has",
        ),
        (("layer", "--blocks", 1, "--compare", "layer"), "--compare layer: the strategy layer"),
        (("layer", "--blocks", 1, "--per-mac"), "--per-mac: the strategy layer has no use"),
        (("layer", "--blocks", 1, "--importance", "l1"), "--importance l1: the strategy layer"),
        (("layer", "--blocks", 1, "--layer-keep", 0.1), "--layer-keep 0.1: the strategy layer"),
        (("layer", "--blocks", 1, "--round", 8), "--round 8: the strategy layer has no use"),
        (("layer", "--blocks", 1, "--thresholds", "auto"), "--thresholds auto: the strategy layer"),
        (("layer", "--blocks", 1, "--keep-min", 2), "layer takes whole blocks"),
        (("layer", "--blocks", 1, "--target", "macs=0.9"), "and not both"),
        (("slim+layer",), "slim+layer: expected a number of blocks"),
        (("normal", "--blocks", 1), "--blocks 1: the strategy normal has no use for it"),
        (("bayesian", "--blocks", 1), "--blocks 1: the strategy bayesian has no use for it"),
    ],
)
def test_what_the_command_refuses(pruned, options, message):
    ended = pruned("--strategy", *options)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert message in ended.err
    assert not list(Path().iterdir())
