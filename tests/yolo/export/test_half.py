"""ONNX files in float16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cfgs import HEAD, conv, net, plain, region
from command_line import CommandLine
from networks import build
from paths import ROOT

from pruning.proof.exported import prove_onnx
from yolo.errors import DarknetError, ProofError
from yolo.export.onnx import exported
from yolo.export.onnx_graph import section_of
from yolo.export.options import DECODED, HALF, LAYOUTS, NMS, RAW, OnnxOptions
from yolo.models.weights import Header

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

DETECTOR = net(32, 32) + conv(8, 3, batch_normalize=1) + HEAD
REGION = net(32, 32) + plain(12, 3, batch_normalize=1) + region(coords=4, softmax=1)
CLASSIFIER = net(16, 16) + conv(6) + "[avgpool]\n[softmax]\n"
UPSAMPLED = net(32, 32) + conv(8, 3, stride=2) + "[upsample]\nstride=2\n" + HEAD
DIGITS = ("weights/digits.weights", "--cfg", "cfg/digits.cfg")


@pytest.mark.parametrize("boxes", [RAW, DECODED, NMS])
@pytest.mark.parametrize("text", [DETECTOR, REGION, UPSAMPLED])
def test_detectors(text: str, boxes: str) -> None:
    network = build(text)
    options = OnnxOptions(boxes, thresh=0.2, precision=HALF)
    content = exported(network, Header(), options).SerializeToString()
    assert 0 < prove_onnx(network, options, {".onnx": content}).value < 1e-2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_proven(layout: str) -> None:
    network = build(DETECTOR)
    options = OnnxOptions(layout=layout, precision=HALF)
    content = exported(network, Header(), options).SerializeToString()
    assert 0 < prove_onnx(network, options, {".onnx": content}).value < 1e-2


def test_a_classifier() -> None:
    network = build(CLASSIFIER)
    options = OnnxOptions(precision=HALF)
    content = exported(network, Header(), options).SerializeToString()
    assert prove_onnx(network, options, {".onnx": content}).value < 1e-2


def test_weights_are_float16_and_decoding_is_float32() -> None:
    network = build(DETECTOR)
    model = exported(network, Header(), OnnxOptions(precision=HALF))
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        section = section_of(node.name)
        decodes = section is None or network.layers[section].is_head
        if node.op_type == "Conv":
            assert types[node.input[1]] == onnx.TensorProto.FLOAT16
        if decodes and node.op_type != "Cast":
            assert onnx.TensorProto.FLOAT16 not in {types.get(name) for name in node.input}
    ends = [*model.graph.input, *model.graph.output]
    assert {e.type.tensor_type.elem_type for e in ends} == {onnx.TensorProto.FLOAT}


def test_another_network_fails_the_proof() -> None:
    network, other = build(DETECTOR), build(DETECTOR, seed=1)
    options = OnnxOptions(precision=HALF)
    content = exported(other, Header(), options).SerializeToString()
    with pytest.raises(ProofError, match="allowed 1e-02"):
        prove_onnx(network, options, {".onnx": content})


def test_too_large_weights_are_refused() -> None:
    network = build(DETECTOR)
    with torch.no_grad():
        network.layers[0].conv.weight[0, 0, 0, 0] = 1e9
    with pytest.raises(DarknetError, match="export it without --half"):
        exported(network, Header(), OnnxOptions(precision=HALF))


def test_the_command(command: CommandLine, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    half, whole = tmp_path / "half.onnx", tmp_path / "whole.onnx"
    assert command.run("export", *DIGITS[:1], half, *DIGITS[1:], "--half").code == 0
    assert command.run("export", *DIGITS[:1], whole, *DIGITS[1:]).code == 0
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    properties = {entry.key: entry.value for entry in onnx.load(half).metadata_props}
    assert '"precision": "float16"' in properties["darknet-pruning"]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("x.onnx", ["--half", "--int8"], "not allowed with"),
        ("x.weights", ["--half"], "only .onnx files have that"),
        ("x.param", ["--half"], "only .onnx files have that"),
    ],
)
def test_wrong_options(command: CommandLine, tmp_path: Path, target, options, message) -> None:
    ended = command.run("export", "none.pt", tmp_path / target, *options)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
