"""ncnn's files: what they compute, their names, and what ncnn can't do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cfgs import HEAD, conv, maxpool, net
from command_line import CommandLine
from networks import build

from pruning.proof.exported import prove_ncnn
from yolo.errors import DarknetError, ProofError
from yolo.export.formats import FORMATS
from yolo.export.options import DECODED, NMS, RAW, OnnxOptions
from yolo.models.weights import Header, save_weights
from yolo.network import Network

for package in ("onnx", "onnxruntime", "ncnn", "pnnx"):
    pytest.importorskip(package, reason=f"{package} is not installed")

# pools that pad more on one side, or by 1 all around
TEXT = net(32, 32) + conv(8, 3) + maxpool(2, 1) + maxpool(3, 2) + maxpool(5, 1) + HEAD


def files(network: Network, options: OnnxOptions, folder: Path) -> dict[str, bytes]:
    contents = {}
    writers = FORMATS["ncnn"].load()(network, Header(), folder / "m.param", options)
    for path, write in writers:
        with path.open("wb") as file:
            write(file)
        contents[path.suffix] = path.read_bytes()
    return contents


@pytest.mark.parametrize("boxes", [RAW, DECODED])
def test_they_compute_the_network(boxes: str, tmp_path: Path) -> None:
    network, options = build(TEXT), OnnxOptions(boxes)
    written = files(network, options, tmp_path)
    shape = network.image
    images = torch.rand(2, shape.channels, shape.height, shape.width)
    assert prove_ncnn(network, options, written, images).value is not None
    assert "images" in written[".param"].decode()
    assert json.loads(written[".json"])["task"] == "detect"
    other = build(TEXT, seed=1)
    with pytest.raises(ProofError, match="differs from the model"):
        prove_ncnn(other, options, written, images)


def test_what_it_cannot_do(tmp_path: Path) -> None:
    for options in (OnnxOptions(NMS), OnnxOptions(batch=None), OnnxOptions(batch=2)):
        with pytest.raises(DarknetError, match="ncnn takes one image"):
            files(build(TEXT), options, tmp_path)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: CommandLine) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.cfg").write_text(TEXT)
    save_weights(build(TEXT), "x.weights")
    ended = command.run("export", "x.weights", "x.param", "--cfg", "x.cfg")
    assert ended.code == 0, ended.err
    assert "computes what the model does" in ended.out
    assert {path.name for path in Path().iterdir()} >= {"x.param", "x.bin", "x-ncnn.json"}
