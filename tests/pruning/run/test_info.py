"""The list of sections: what it says, and that it adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cfgs import connected, conv, maxpool, net, region, route, shortcut, yolo
from command_line import CommandLine
from paths import ROOT
from published import PUBLISHED

from pruning.run.info import Info, SectionInfo, describe
from yolo.cfg import Cfg
from yolo.models.randomize import randomize
from yolo.models.weights import save_weights
from yolo.network import Network


@pytest.fixture
def info(tmp_path: Path):
    """describe() of a text."""

    def described(text: str) -> Info:
        (tmp_path / "x.cfg").write_text(NET + text)
        return describe(str(tmp_path / "x.cfg"))

    return described


def why(info: Info) -> list[str]:
    """What the table's last column says of the sections that have filters."""
    return [s.why or "yes" for s in info.sections if s.prunable is not None]


NET = net(16, 16)
YOLO = yolo(anchors="1,2")
HEAD = conv(6, 1) + YOLO
CASES = {
    "plain": (conv(8) + HEAD, ["yes", "no: feeds a [yolo] head"]),
    "region": (
        conv(8) + conv(12, 1) + region(),
        ["yes", "no: feeds a [region] head"],
    ),
    "softmax": (
        conv(8) + connected(4, activation=None) + "[softmax]\n",
        ["yes", "no: feeds a [softmax] head"],
    ),
    "no head": (conv(8) + conv(4), ["yes", "no: is the network's output"]),
    "loose end": (
        conv(8) + conv(4) + route(0) + HEAD,
        ["yes", "no: is used by no other section", "no: feeds a [yolo] head"],
    ),
    "reorg": (
        conv(8) + "[reorg]\nstride=2\n" + HEAD,
        ["no: feeds a [reorg], which mixes channels and places", "no: feeds a [yolo] head"],
    ),
    "reorg3d": (conv(8) + "[reorg3d]\nstride=2\n" + HEAD, ["yes", "no: feeds a [yolo] head"]),
    "lrn": (
        conv(8) + "[lrn]\n" + HEAD,
        ["no: feeds a [lrn], which mixes neighbouring channels", "no: feeds a [yolo] head"],
    ),
    "crop": (
        conv(8) + "[crop]\ncrop_width=8\ncrop_height=8\n" + HEAD,
        ["no: feeds a [crop]", "no: feeds a [yolo] head"],
    ),
    "shortcut": (
        conv(8) + conv(8) + shortcut(-2) + HEAD,
        ["yes", "yes", "no: feeds a [yolo] head"],
    ),
    "unequal shortcut": (
        conv(4) + conv(8) + shortcut(-2) + HEAD,
        ["no: belongs to a [shortcut] of unequal widths"] * 2 + ["no: feeds a [yolo] head"],
    ),
    "into the head": (
        conv(8) + conv(6) + conv(6) + shortcut(-2) + YOLO,
        ["yes"] + ["no: feeds a [yolo] head"] * 2,
    ),
    "groups": (
        conv(8) + conv(8, groups=2) + HEAD,
        ["yes", "yes", "no: feeds a [yolo] head"],
    ),
    "depthwise": (
        conv(8) + conv(8, groups=8) + HEAD,
        ["yes", "yes", "no: feeds a [yolo] head"],
    ),
    "depthwise on the image": (
        conv(6, groups=3) + HEAD,
        ["no: is the network's input", "no: feeds a [yolo] head"],
    ),
    "halves of the image's features": (
        conv(8) + route(-1, groups=2, group_id=1) + HEAD,
        ["yes", "no: feeds a [yolo] head"],
    ),
    "a part that can't change": (
        conv(8) + route(-1, groups=2, group_id=1) + "[reorg]\n" + HEAD,
        ["no: must stay as wide as another part of its section", "no: feeds a [yolo] head"],
    ),
    "shared": (
        conv(8) + conv(8) + conv(8, share_index=1) + HEAD,
        ["no: feeds convolutions that share their weights"] * 3 + ["no: feeds a [yolo] head"],
    ),
    "mixing activation": (
        conv(8, activation="normalize_channels") + HEAD,
        ["no: activation=normalize_channels mixes its channels", "no: feeds a [yolo] head"],
    ),
    "one factor a place": (
        conv(8) + conv(1, 1) + "[scale_channels]\nfrom=0\nscale_wh=1\n" + HEAD,
        [
            "no: is scaled place by place by [scale_channels]",
            "no: feeds a [scale_channels] with one factor a place",
            "no: feeds a [yolo] head",
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_can_be_cut_and_why_not(info, name: str) -> None:
    text, expected = CASES[name]
    assert why(info(text)) == expected


def test_numbers_of_a_section(info) -> None:
    """By hand: 3·3·3·8 weights, 8 γ and 8 β; 16·16 positions."""
    first, pool, *_ = info(conv(8) + maxpool() + HEAD).sections
    assert first == SectionInfo(
        0, "convolutional", "3x16x16", "8x16x16", 216 + 16, 216 * 256, True, ""
    )
    assert pool == SectionInfo(1, "maxpool", "8x16x16", "8x8x8", 0, 0, None, "")


def test_several_inputs_are_listed(info) -> None:
    description = info(conv(8) + conv(4) + route(-1, 0) + HEAD)
    assert description.sections[2].input == "4x16x16 + 8x16x16"
    assert description.sections[2].output == "12x16x16"


def test_channels_that_can_be_cut(info) -> None:
    """Those of sections that stand and fall together are counted in each of them."""
    assert info(conv(8) + HEAD).prunable_channels == 8
    assert info(conv(8) + conv(4) + HEAD).prunable_channels == 12
    assert info(conv(8) + conv(8) + shortcut(0) + HEAD).prunable_channels == 16
    assert info(conv(8) + "[reorg]\n" + HEAD).prunable_channels == 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_totals_are_the_published_ones(name: str) -> None:
    description, published = describe(str(ROOT / "cfg" / f"{name}.cfg")), PUBLISHED[name]
    assert description.parameters == published.parameters
    assert description.parameters == sum(s.parameters for s in description.sections)
    assert description.macs == sum(s.macs for s in description.sections)
    assert description.bytes == 20 + 4 * published.floats
    assert len(description.sections) == published.layers
    assert description.prunable_channels > 0


def test_the_command(command: CommandLine, tmp_path: Path) -> None:
    cfg, weights = tmp_path / "x.cfg", tmp_path / "x.weights"
    cfg.write_text(NET + conv(8) + HEAD)
    network = Network(Cfg.load(cfg))
    randomize(network)
    save_weights(network, weights)
    ended = command.run("info", "--cfg", cfg, "--weights", weights, "--json", tmp_path / "x.json")
    assert (ended.code, ended.err) == (0, "")
    head = "no: feeds a [yolo] head"
    for cells in (
        ("", "section", "input", "output", "parameters", "MACs", "prunable"),
        ("0", "convolutional", "3x16x16", "8x16x16", "232", "55,296", "yes"),
        ("1", "convolutional", "8x16x16", "6x16x16", "60", "12,288", head),
        ("2", "yolo", "6x16x16", "6x16x16", "", "", ""),
        ("", "total", "", "", "292", "67,584", "8 channels"),
    ):
        assert cells in rows(ended.out)
    assert ended.out.endswith("\n1,300 bytes of weights\n")
    assert weights.stat().st_size == 1300
    data = json.loads((tmp_path / "x.json").read_text())
    assert data == describe(str(cfg)).to_json()
    totals = {k: v for k, v in data.items() if k != "sections"}
    assert totals == {
        "kind": "description of a network",
        "schema": 2,
        "cfg": str(cfg),
        "parameters": 292,
        "macs": 67584,
        "bytes": 1300,
        "prunable_channels": 8,
    }
    assert data["sections"][1] == {
        "index": 1,
        "section": "convolutional",
        "input": "8x16x16",
        "output": "6x16x16",
        "parameters": 60,
        "macs": 12288,
        "prunable": False,
        "why": head,
    }


def test_a_backbone_file_on_request(command: CommandLine, tmp_path: Path) -> None:
    cfg, weights = tmp_path / "x.cfg", tmp_path / "x.weights"
    cfg.write_text(NET + conv(8) + HEAD)
    network = Network(Cfg.load(cfg))
    randomize(network)
    save_weights(network, weights)
    weights.write_bytes(weights.read_bytes()[: 20 + 4 * (4 * 8 + 216)])
    model = ("--cfg", cfg, "--weights", weights)
    assert command.run("info", *model, "--cutoff", 1).code == 0
    ended = command.run("info", *model)
    assert ended.code == 2
    assert "[convolutional] the file ends in its biases" in ended.err


def rows(table: str) -> set[tuple[str, ...]]:
    lines = (line for line in table.splitlines() if line.startswith("|"))
    return {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines}
