"""prune.py --export: the result as files for other engines, written and proven with the rest."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from cfgs import HEAD, conv, net
from command_line import CommandLine
from networks import build

from yolo.inference.engines import open_runner
from yolo.models.weights import save_weights

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed")

TEXT = net(32, 32) + conv(16, 3, batch_normalize=1, stride=2) * 2 + HEAD
MODEL = ("--cfg", "x.cfg", "--weights", "x.weights", "--out", "out", "--name", "cut")
QUICK = ("--verify", "none", "--runs", "0")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x.cfg, x.weights and a few pictures here."""
    monkeypatch.chdir(tmp_path)
    Path("x.cfg").write_text(TEXT)
    save_weights(build(TEXT), "x.weights")
    Path("pictures").mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        cv2.imwrite(f"pictures/{number}.png", random.integers(0, 255, (40, 40, 3), np.uint8))


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("kind", "file"),
    [("onnx", "cut.onnx"), ("half", "cut-half.onnx"), ("int8", "cut-int8.onnx")],
)
def test_files_of_the_result(command: CommandLine, kind: str, file: str) -> None:
    images = ("--calibrate", "pictures")
    ended = command.run("prune", *MODEL, *QUICK, *images, "--export", kind)
    assert ended.code == 0, ended.err
    assert f"{file}: " in ended.out
    network = open_runner("out/cut.cfg", "out/cut.weights").network
    deployed = open_runner(None, f"out/{file}").network
    assert [layer.out_shape for layer in deployed.layers] == [
        layer.out_shape for layer in network.layers
    ]


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--export", "int8"), "--export int8 needs --calibrate"),
        (("--export", "onnx", "--dry-run"), "has no effect with --dry-run"),
    ],
)
def test_wrong_options(command: CommandLine, options: tuple[str, ...], message: str) -> None:
    ended = command.run("prune", *MODEL, *options)
    assert ended.code == 2
    assert message in ended.err
    assert not Path("out").exists()
