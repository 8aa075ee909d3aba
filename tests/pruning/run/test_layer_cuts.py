"""Cuts of whole blocks, alone or before channels: their proof, their plan, their report."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import random_blocks
import random_cfg
import torch
from block_cuts import differ, digits, entering, layer, measures, network, silent
from cfgs import HEAD, RESIDUAL, conv, net, plain, shortcut
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from jobs import prune
from networks import build, random_input
from pruned_files import Model, check_files, files, ours, written
from specs import spec

from pruning.calibration.recovery import recover
from pruning.cut.blocks import residual_blocks
from pruning.cut.folding import Folding
from pruning.cut.plan import KIND, SCHEMA, Plan
from pruning.cut.shortened import Shortened
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.head_error import head_error
from pruning.registry import RECONSTRUCT, RECOVERIES
from pruning.selection.blocks import BlockSchedule, block_scores, choose_blocks
from yolo.errors import DarknetError, PlanError
from yolo.models.randomize import noise_image
from yolo.models.weights import save_weights
from yolo.network import Network

__all__ = ["network"]  # a fixture
LAYER = "layer", "slim+layer"
SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=25)
NET = net(12, 10)


@st.composite
def models(draw):
    """A random network with blocks that can go, and how many of them do."""
    sample = random_cfg.sample(draw(random_blocks.cfg_texts()), draw(st.integers(0, 2**16)))
    state = {i: {n: t.float() for n, t in ts.items()} for i, ts in sample.state.items()}
    network = Network.with_state(sample.network.cfg, state)
    if all(block.reason for block in residual_blocks(network)):
        reject()
    most = len(BlockSchedule(network, spec("layer", blocks=1)))
    return network, draw(st.integers(1, most)), draw(st.sampled_from(LAYER))


@SLOW
@given(models())
def test_every_network_is_proven_and_planned_again(tmp_path_factory, case):
    network, blocks, strategy = case
    folder = tmp_path_factory.mktemp("layer")
    network.cfg.write(folder / "x.cfg")
    save_weights(network, folder / "x.weights")
    model = Model(str(folder / "x.cfg"), str(folder / "x.weights"))
    percent = None if strategy == "layer" else 0.25
    try:
        result = written(model.job(strategy, percent, blocks=blocks), folder / "out")
    except DarknetError as error:
        # a share of almost nothing, or numbers that grow without limit
        if re.search("out of reach|nothing that it may cut|not finite", str(error)):
            reject()
        raise
    smaller = check_files(result, folder / "out")
    assert len(result.cut.plan.blocks) == blocks
    x = noise_image(network)
    if strategy == "layer":
        assert differ(entering(smaller, x), silent(network, result.cut.plan.blocks, x)) <= 1e-4
    result.cut.plan.save(folder / "plan.json")
    plan = Plan.load(folder / "plan.json")
    assert plan == result.cut.plan
    # sections are those of the original
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
    assert differ(entering(smaller, x), silent(network, result.cut.plan.blocks, x)) <= 1e-6
    proof = result.report.proof
    assert proof.blocks.value <= 1e-6
    assert proof.masked.value == proof.fold.value == 0
    assert proof.engines["opencv"].value <= 1e-4
    assert result.report.layers == []
    assert [b.shortcut for b in result.report.blocks] == list(result.cut.plan.blocks)


def test_reports_tell_what_went(network):
    report = prune(layer(blocks=2, verify=())).report
    assert report.before == prune(digits("slim", percent=0.0, verify=())).report.before
    assert report.proof.blocks.note == "not run"
    gone = [b.macs for b in report.blocks]
    assert report.before.cost.macs - report.after.cost.macs == sum(gone) > 0
    lost = sum(b.parameters for b in report.blocks)
    assert report.before.cost.parameters - report.after.cost.parameters == lost > 0
    scores = block_scores(network, network.state())
    for block in report.blocks:
        assert block.score == scores[block.shortcut]
        first, last = block.sections[0], block.sections[-1]
        assert f" {first}-{last} " in report.tables()
    data = json.loads(report.to_json({"cfg": Path("x"), "weights": Path("x")}))
    assert [b["shortcut"] for b in data["blocks"]] == [b.shortcut for b in report.blocks]
    assert data["percent"] == 0
    assert data["reached"] is None


def test_shares_are_of_the_original(network):
    """Blocks and channels together come to half, though not one channel more goes."""
    job = digits("slim+layer", percent=None, blocks=2, target="macs=0.5", verify=())
    report = prune(job).report
    assert 0.49 < report.after.cost.macs / network.macs() <= 0.5
    assert report.target == "macs=0.5"
    # what blocks do alone takes no channel
    easy = prune(digits("slim+layer", percent=None, blocks=2, target="macs=0.9", verify=()))
    assert easy.report.layers == []
    assert easy.cut.plan.keep == {}


def test_channels_are_those_of_what_is_left(network):
    """As if the network without blocks had been given; sections keep their numbers."""
    both = prune(digits("slim+layer", percent=0.4, blocks=2))
    shortened = both.cut.shortened
    first = prune(layer(blocks=2)).cut.network
    assert first.cfg.to_bytes() == shortened.network.cfg.to_bytes()
    names = {shortened.index_map[i]: i for i in shortened.kept}
    for change in both.report.layers:
        index = shortened.index_map[change.index]
        assert names[index] == change.index
        assert change.before == network.layers[change.index].out_shape.channels
        assert change.after == both.cut.network.layers[index].out_shape.channels
    assert {c.index for c in both.report.layers} == set(both.cut.plan.keep)


def test_spared_sections_keep_their_numbers(network):
    """A section behind blocks that went is the one that the whole network names so."""
    section = 18
    for more in ({"spare": (section,)}, {"only": (11, 14, section)}):
        result = prune(digits("slim+layer", percent=0.2, blocks=1, verify=(), **more))
        cut = {change.index for change in result.report.layers}
        assert (section in cut) == ("only" in more)
        assert result.cut.plan.blocks in ((13,), (16,))


def test_a_plan_may_take_blocks_and_channels_by_hand(tmp_path):
    plan = Plan("slim", 0.0, {18: tuple(range(40))}, blocks=(16,))
    plan.save(tmp_path / "plan.json")
    result = prune(digits("slim", plan=str(tmp_path / "plan.json")))
    assert [c.index for c in result.report.layers] == [18]
    assert result.cut.network.layers[15].out_shape.channels in (40, 41)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"blocks": [12]}, "plan: block 12: there is no [shortcut] of this number"),
        ({"blocks": [99]}, "plan: block 99: there is no"),
        ({"blocks": 16}, "is a damaged pruning plan"),
        ({"blocks": ["16"]}, "is a damaged pruning plan"),
        ({"blocks": [16], "keep": {"14": [0]}}, "plan: section 14 doesn't exist, or goes with"),
        ({"blocks": [16], "mean": [[14, 0]]}, "plan: section 14 doesn't exist, or goes with"),
    ],
)
def test_plans_that_cannot_be_followed(tmp_path, plan, message):
    data = {"kind": KIND, "schema": SCHEMA, "strategy": "layer", "percent": 0, "keep": {}} | plan
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
    assert result.cut.plan.keep[3] == result.cut.plan.keep[0]
    assert {0, 3} <= {c.index for c in result.report.layers}
    assert result.report.blocks[0].stays
    assert result.report.proof.engines["opencv"].value <= 1e-4


@pytest.mark.parametrize(("name", "strategy"), [("resnet18", "layer"), ("resnet18", "slim+layer")])
def test_real_cfgs(name, strategy, tmp_path):
    percent = None if strategy == "layer" else 0.3
    job = ours(name, 64, tmp_path).job(strategy, percent, blocks=3, verify=("torch", "opencv"))
    result = written(job, tmp_path)
    check_files(result, tmp_path)
    assert len(result.report.blocks) == 3
    assert result.report.proof.engines["opencv"].value <= 1e-4


def test_a_shortened_network_is_itself_without_blocks(network):
    shortened = Shortened.of(network)
    assert shortened.network is network
    assert shortened.origins == {i: i for i in range(len(network.layers))}
    plan = Plan("slim", 0.5, {2: (0,)}, ((2, 0),))
    assert shortened.inner(plan) == shortened.outer(plan) == plan


def test_numbers_go_there_and_back(network):
    for count in range(1, 5):
        blocks = [b for b in residual_blocks(network) if not b.reason][:count]
        shortened = Shortened.of(network, blocks)
        graph = ChannelGraph(shortened.network)
        keep = dict.fromkeys(graph.producers, (0,))
        mean = tuple((i, 0) for i in graph.producers)
        plan = Plan("slim+layer", 0.5, keep, mean)
        outer = shortened.outer(plan)
        assert outer.blocks == tuple(b.shortcut for b in blocks)
        assert shortened.inner(outer) == dataclasses.replace(plan, blocks=outer.blocks)
        for index, section in shortened.origins.items():
            old, new = network.layers[section], shortened.network.layers[index]
            assert old.out_shape == new.out_shape
            assert old.section.type == new.section.type


# Recovery from a cut of blocks


@SLOW
@given(models(), st.sampled_from(("bn", "reconstruct")))
def test_recovery_aims_at_the_original(case, method):
    """Cut channels or not, the rest never does worse; all that is equal stays as it is."""
    network, blocks, strategy = case
    asked = spec("layer", blocks=blocks)
    shortened = Shortened.of(network, choose_blocks(network, asked, measures))
    graph = ChannelGraph(shortened.network)
    alive = np.ones(graph.size, bool)
    for family in graph.families if strategy != "layer" else ():
        alive[family.groups[:, (family.slots + 1) // 2 :]] = False
    fold = Folding(graph, shortened.network.state()).fold(alive)
    cfg, state = operate(graph, shortened.network.state(), fold)
    smaller = Network.with_state(cfg, state)
    x = random_input(network, 16).sigmoid()
    if not all(out.isfinite().all() for out in entering(network, x)):
        reject()
    better, recovery = recover(RECOVERIES[method], graph, fold, smaller, x, shortened=shortened)
    held_out = x[7::8]
    error = head_error(network, better, held_out, shortened.index_map)
    assert error <= recovery.before or not np.isfinite(recovery.before)
    first = min(i for block in shortened.blocks for i in block.sections)
    for i in range(first if strategy == "layer" else 0):
        for name, tensor in smaller.state().get(i, {}).items():
            assert torch.equal(better.state()[i][name], tensor)


def test_a_linear_branch_is_recovered():
    """What comes next can do the block's work where that is a 1x1 convolution of the skip."""
    network = build(NET + conv() + plain(4) + shortcut(0) + plain(6))
    shortened = Shortened.of(network, residual_blocks(network))
    graph = ChannelGraph(shortened.network)
    fold = Folding(graph, shortened.network.state()).fold(np.ones(graph.size, bool))
    x = random_input(network, 32).sigmoid()
    _, recovery = recover(
        RECOVERIES[RECONSTRUCT], graph, fold, shortened.network, x, shortened=shortened
    )
    assert recovery.before > 0.05
    assert recovery.after < 0.01 * recovery.before


def test_a_cut_of_blocks_is_recovered(network, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(16):
        coarse = random.integers(0, 256, (6, 6, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (96, 96)))
    result = prune(layer(blocks=1, calibrate=str(folder), recover=RECONSTRUCT))
    assert result.report.recovery.after < result.report.recovery.before
