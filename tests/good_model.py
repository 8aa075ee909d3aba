"""A model that commands can prune, and what they should do with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import CommandLine, Ended

from yolo.cfg import Cfg
from yolo.models.randomize import randomize
from yolo.models.weights import save_weights
from yolo.network import Network

LIGHT = ("--strategy", "shortcut", "--verify", "torch", "--runs", "0")
GOOD = """[net]
width=16
height=16
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
activation=leaky

[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
activation=leaky

[shortcut]
from=-2
activation=linear

[convolutional]
filters=12
size=1
stride=1
pad=1
activation=linear

[yolo]
mask=0,1
anchors=1,2, 3,4, 5,6
classes=1
num=3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with x.cfg and x.weights in it."""
    monkeypatch.chdir(tmp_path)
    Path("x.cfg").write_text(GOOD)
    network = Network(Cfg.load("x.cfg"))
    randomize(network)
    save_weights(network, "x.weights")
    return tmp_path


def content(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def prune(command: CommandLine, *arguments: object) -> Ended:
    """Options given twice count as given last."""
    defaults = ("--cfg", "x.cfg", "--weights", "x.weights", "--out", "out", *LIGHT)
    return command.run("prune", *defaults, *arguments)


def check_refused(ended: Ended, message: str, code: int = 2, kind: str = "error") -> None:
    assert ended.code == code, ended
    assert ended.out == ""
    assert re.fullmatch(kind + r": [^\n]+\n", ended.err), ended.err
    assert message in ended.err, ended.err
    assert len(ended.err) < 1000
