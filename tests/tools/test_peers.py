"""Torch-Pruning beside ours: its cuts computed by our networks, and what is said without it."""

from __future__ import annotations

import copy
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from cfgs import conv, maxpool, net, plain, route, shortcut, upsample, yolo
from command_line import CommandLine
from networks import build, random_input
from tiny_data import DETECTOR, make_detection_data

from yolo.errors import DarknetError
from yolo.layers.convolutional import Convolutional
from yolo.models.randomize import randomize
from yolo.models.weights import save_weights
from yolo.network import Network

MISSING = "not installed: pip install -e '.[bench]'"
LAST = plain(14) + yolo(2, "0,1", "8,8, 16,16")
# shortcut, depthwise, upsample, route; every convolution but the last two can be cut
BRANCHED = net(16, 16) + conv(16) + conv(16) + shortcut(-2)
BRANCHED += conv(32, 1) + conv(32, groups=32, activation="mish") + maxpool() + conv(24)
BRANCHED += upsample() + route(-1, 4) + LAST + route(-3) + LAST


@pytest.fixture
def command(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setattr(importlib.import_module("bench.budgets"), "IMAGES", 1)  # of a scan
    return command


@pytest.fixture
def peers(command: CommandLine) -> ModuleType:
    """tools/peers.py, where Torch-Pruning is there."""
    pytest.importorskip("torch_pruning", reason="Torch-Pruning is not installed: the extra bench")
    return importlib.import_module("bench.peers")


@pytest.fixture
def detector(tmp_path: Path) -> list[str | Path]:
    """The flags for a tiny detector and images to evaluate it on."""
    cfg, weights = tmp_path / "tiny.cfg", tmp_path / "tiny.weights"
    cfg.write_text(DETECTOR)
    network = build(DETECTOR)
    randomize(network)
    save_weights(network, weights)
    data = make_detection_data(tmp_path)
    return ["--cfg", cfg, "--weights", weights, "--data", data]


def test_without_it_peers_says_so(command, detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    ended = command.run("bench", "peers", *detector)
    assert ended.code == 0
    assert MISSING in ended.out


def test_without_it_select_says_so(command, detector, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    ended = command.run("bench", "select", *detector[:2], "--repeat", 1)
    assert ended.code == 0
    assert "select --target macs=0.4" in ended.out
    assert MISSING in ended.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "peers: needs --weights and --data"),
        (("--targets", "1.5"), "'1.5': expected shares between 0 and 1"),
        (("--targets", "half"), "'half': expected shares between 0 and 1"),
        (("--targets", ","), "',': expected shares between 0 and 1"),
    ],
)
def test_wrong_options_are_one_line(command, options, message):
    ended = command.run("bench", "peers", *options)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("rule", ["magnitude", "BN scale"])
def test_its_modules_compute_a_darknet_network_of_their_widths(peers, rule):
    whole = build(BRANCHED)
    before = copy.deepcopy(whole.state())
    peer = peers.Peer(whole, rule, steps=20)
    peer.cut(0.5)
    widths = {
        i: {"filters": layer.conv.out_channels, "groups": layer.conv.groups}
        for i, layer in enumerate(peer.network.layers)
        if isinstance(layer, Convolutional)
    }
    written = Network.with_state(whole.cfg.edited(widths), peer.network.state())
    assert written.macs() == pytest.approx(peer.macs * whole.macs())
    assert 0.2 < peer.macs <= 0.5
    x = random_input(whole)
    with torch.no_grad():
        theirs, ours = peer.network(x), written(x)
    for head in whole.heads:
        assert theirs[head].shape == whole(x)[head].shape
        torch.testing.assert_close(theirs[head], ours[head])
    for i, tensors in whole.state().items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, before[i][name], rtol=0, atol=0)


def test_a_rule_that_has_nothing_to_rank_stops(peers):
    network = build(DETECTOR.replace("batch_normalize=1", "batch_normalize=0"))
    with pytest.raises(DarknetError, match=r"stops at 1\.0000 of the MACs"):
        peers.Peer(network, "BN scale", steps=5).cut(0.5)


def test_the_command_judges_its_cuts(command, peers, detector, tmp_path):
    table = tmp_path / "peers.json"
    ended = command.run("bench", "peers", *detector, "--targets", "0.5,0.8", "--json", table)
    assert ended.code == 0
    rows = {row[0]: row[1:] for row in json.loads(table.read_text())}
    for rule in peers.RULES:
        assert rows[f"Torch-Pruning, {rule}: graph"][0].endswith(" s")
        left = [rows[f"Torch-Pruning, {rule}, macs={share}"] for share in (0.8, 0.5)]
        shares = [float(row[3].split()[0]) for row in left]
        assert 0.5 < shares[0] <= 0.8
        assert shares[1] <= 0.5
        assert all(0 <= float(row[0]) <= 1 for row in left)


def test_what_it_cannot_do_is_reported_in_its_row(command, peers, detector, monkeypatch):
    def broken(peer: object, macs: float) -> None:
        raise RuntimeError("Given groups=1,\nexpected 23 channels")

    monkeypatch.setattr(peers.Peer, "cut", broken)
    ended = command.run("bench", "peers", *detector, "--targets", "0.5")
    assert ended.code == 0
    assert ended.out.count("RuntimeError: Given groups=1, expected 23 channels") == 2


def test_select_times_it_in_the_same_run(command, peers, detector):
    ended = command.run("bench", "select", *detector[:2], "--repeat", 1)
    assert ended.code == 0
    assert "Torch-Pruning: graph" in ended.out
    assert "Torch-Pruning: one step to 0." in ended.out
