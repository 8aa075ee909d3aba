"""ONNX files: any network in onnxruntime and OpenCV, every form of boxes, and what can't be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from cfgs import HEAD, conv, net, plain, region, route, yolo
from command_line import CommandLine
from networks import build
from paths import ROOT
from random_cfg import BLOCKS, head, sample, write

from pruning.proof.exported import prove_onnx
from yolo.cfg import Cfg
from yolo.detections import Detections, detect, suppression
from yolo.errors import DarknetError, ProofError
from yolo.export.onnx import exported
from yolo.export.onnx_graph import OPSET, section_of
from yolo.export.options import BOXES, DECODED, LAYOUTS, NMS, RAW, OnnxOptions
from yolo.inference.engines import open_runner
from yolo.inference.onnx import InOnnxRuntime, InOpenCV, runner_of_content
from yolo.layers import Shape
from yolo.models.load import load_model
from yolo.models.weights import Header
from yolo.network import Network

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

DETECTOR = net(32, 32) + conv(8, 3, batch_normalize=1) + HEAD
TWO_HEADS = (
    net(16, 16, letter_box=1)
    + conv(8, 3, batch_normalize=1, stride=2)
    + plain(18)
    + yolo(classes=1, mask="0,1,2", anchors="4,4, 8,8, 16,16", num=3, nms_kind="greedynms")
    + route(0)
    + conv(8, 3, stride=2)
    + plain(12)
    + yolo(classes=1, mask="1,2", anchors="4,4, 8,8, 16,16", num=3, nms_kind="greedynms")
)
REGION = net(32, 32) + plain(12, 3, batch_normalize=1) + region(coords=4, softmax=1)
CLASSIFIER = net(16, 16) + conv(6) + "[avgpool]\n[softmax]\n"
LEAST = 0.2  # confidence
# an exporter that knows its sections by name would miss some of these
QUICK = ("digits", "yolov4-tiny", "yolov7-tiny", "yolov2-tiny", "enet-coco", "lenet-5-bayesian")


def file(network: Network, options: OnnxOptions) -> bytes:
    content = exported(network, Header(), options).SerializeToString()
    assert isinstance(content, bytes)
    return content


def proven(network: Network, options: OnnxOptions) -> bytes:
    content = file(network, options)
    assert prove_onnx(network, options, {".onnx": content}).value is not None
    return content


def of_cfg(name: str, **edits: int) -> Network:
    network, _ = load_model(str(ROOT / "cfg" / f"{name}.cfg"), "random")
    return network.resized(**edits) if edits else network


@pytest.mark.parametrize("name", QUICK)
def test_cfgs(name: str) -> None:
    sizes = {} if name.startswith("lenet") else {"width": 96, "height": 96}
    network = of_cfg(name, **sizes)
    proven(network, OnnxOptions(RAW))
    proven(network, OnnxOptions(DECODED, batch=None))


@pytest.mark.parametrize("block", sorted(set(BLOCKS), key=lambda block: block.__name__))
def test_every_section(block) -> None:
    for seed in range(3):
        text = write(Shape(3, 8, 8), [(BLOCKS[0], seed), (block, seed), (head, 3)])
        drawn = sample(text, seed)
        state = {i: {n: t.float() for n, t in ts.items()} for i, ts in drawn.state.items()}
        proven(Network.with_state(drawn.network.cfg, state), OnnxOptions(RAW))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("text", [DETECTOR, TWO_HEADS, REGION])
def test_layouts_give_the_same_objects(text: str, layout: str) -> None:
    network = build(text)
    runner = runner_of_content(proven(network, OnnxOptions(DECODED, layout)), "x", InOnnxRuntime)
    x, nms = torch.rand(3, 3, network.image.height, network.image.width), suppression(network)
    with torch.no_grad():
        expected = detect(network, network(x), LEAST, nms)
    for one, other in zip(runner.detect(x, LEAST, nms), expected, strict=True):
        assert_same(one, other)


def assert_same(one: Detections, other: Detections) -> None:
    """The same objects, in any order."""
    assert len(one) == len(other) > 0
    first, second = (
        torch.cat((d.classes[:, None].float(), d.confidences[:, None], d.boxes), 1)
        for d in (one, other)
    )
    apart = (first[:, None] - second[None]).abs().amax(2)
    assert apart.amin(0).max() < 1e-4
    assert apart.amin(1).max() < 1e-4


@pytest.mark.parametrize("text", [DETECTOR, TWO_HEADS, REGION])
@pytest.mark.parametrize("batch", [1, 2, None])
def test_nms_in_the_graph(text: str, batch: int | None) -> None:
    network = build(text)
    content = proven(network, OnnxOptions(NMS, batch=batch, thresh=LEAST))
    runner = runner_of_content(content, "x", InOnnxRuntime)
    x = torch.rand(3, 3, network.image.height, network.image.width)
    with torch.no_grad():
        expected = detect(network, network(x), LEAST, suppression(network))
    for one, other in zip(runner.detect(x, LEAST, None), expected, strict=True):
        assert_same(one, other)


def test_opencv_reads_them() -> None:
    network = build(TWO_HEADS)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        expected = detect(network, network(x), LEAST, suppression(network))
    for options in (OnnxOptions(RAW), *(OnnxOptions(DECODED, layout) for layout in LAYOUTS)):
        runner = runner_of_content(file(network, options), "x", InOpenCV)
        found = runner.detect(x, LEAST, suppression(network))
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)


def test_a_classifier() -> None:
    network = build(CLASSIFIER)
    x = torch.rand(2, 3, 16, 16)
    runner = runner_of_content(proven(network, OnnxOptions()), "x", InOnnxRuntime)
    with torch.no_grad():
        expected = network(x)[network.heads[-1]].flatten(1)
    torch.testing.assert_close(runner.scores(x), expected)
    with pytest.raises(DarknetError, match="gives no boxes"):
        file(network, OnnxOptions(NMS))


def test_names_and_metadata() -> None:
    network = build(TWO_HEADS)
    options = OnnxOptions(RAW, names=("cell",), license="CC0")
    model = exported(network, Header(), options)
    assert [output.name for output in model.graph.output] == ["conv_1", "conv_5"]
    assert model.opset_import[0].version == OPSET
    assert {entry.domain for entry in model.opset_import} == {""}
    assert {section_of(node.name) for node in model.graph.node} == {0, 1, 4, 5}
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["names"] == "{0: 'cell'}"
    assert (said["imgsz"], said["task"], said["license"]) == ("[16, 16]", "detect", "CC0")
    assert '"resize": "letterbox"' in said["darknet-pruning"]
    read = runner_of_content(model.SerializeToString(), "x.onnx", InOnnxRuntime)
    assert read.names == ("cell",)
    assert read.network.cfg.net.flag("letter_box")


def test_the_size_is_that_of_the_weights() -> None:
    network = of_cfg("yolov4-tiny")
    size = 4 * network.count_floats()
    assert len(file(network, OnnxOptions())) < 1.02 * size


def test_a_wrong_file_fails_the_proof() -> None:
    network, other = build(DETECTOR), build(DETECTOR, seed=1)
    for boxes in BOXES:
        options = OnnxOptions(boxes, thresh=LEAST)
        with pytest.raises(ProofError, match=r"differs from the model|objects"):
            prove_onnx(network, options, {".onnx": file(other, options)})


def test_boxes_of_other_classes_are_refused() -> None:
    text = TWO_HEADS.replace("filters=12", "filters=14")[::-1].replace("1=sessalc", "2=sessalc", 1)
    network = Network(Cfg(text[::-1].encode(), "x.cfg"))
    with pytest.raises(DarknetError, match="classes=2, but the head"):
        file(build(text[::-1]), OnnxOptions())
    assert network.heads


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x.cfg and x.weights here."""
    from yolo.models.weights import save_weights

    monkeypatch.chdir(tmp_path)
    Path("x.cfg").write_text(TWO_HEADS)
    save_weights(build(TWO_HEADS), "x.weights")


@pytest.mark.usefixtures("model")
def test_the_command(command: CommandLine) -> None:
    Path("x.names").write_text("cell\n")
    ended = command.run("export", "x.weights", "x.onnx", "--cfg", "x.cfg", "--names", "x.names")
    assert ended.code == 0, ended.err
    assert "x.onnx: computes what the model does" in ended.out
    runner = open_runner(None, "x.onnx")
    assert runner.names == ("cell",)
    assert open_runner(None, "x.onnx", "opencv").network.heads == runner.network.heads


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--boxes", "raw", "--layout", "ultralytics"], "only --boxes decoded has layouts"),
        (["--thresh", "0.5"], "only --boxes nms has a threshold"),
        (["--boxes", "nms", "--thresh", "1"], "expected at least 0, below 1"),
        (["--batch", "0"], "expected a whole number from 1, or dynamic"),
        (["--names", "none.names"], "none.names"),
        (["--calibrate", "nowhere"], "nowhere"),
        (["--engine", "darknet"], "reads .weights"),
    ],
)
def test_wrong_options(command: CommandLine, options: list[str], message: str) -> None:
    ended = command.run("export", "x.weights", "x.onnx", "--cfg", "x.cfg", *options)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("x.onnx").exists()


@pytest.mark.usefixtures("model")
def test_wrong_files(command: CommandLine) -> None:
    Path("text.onnx").write_text("no model")
    foreign = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    Path("foreign.onnx").write_bytes(foreign.SerializeToString())
    for options, message in (
        (["--weights", "text.onnx"], "is not an ONNX file"),
        (["--weights", "foreign.onnx"], "was not written by export.py"),
        (["--weights", "none.onnx"], "can't read the ONNX file"),
        (["--weights", "text.onnx", "--cfg", "x.cfg"], "goes without --cfg"),
        (["--weights", "text.onnx", "--engine", "torch"], "torch reads no .onnx files"),
    ):
        Path("p.png").write_bytes(b"")
        ended = command.run("detect", "p.png", *options)
        assert ended.code == 2
        assert message in ended.err, ended.err
        assert ended.err.count("\n") == 1


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    ended = command.run("export", "x.weights", "x.onnx", "--cfg", "x.cfg")
    assert ended.code == 2
    assert f"{package} is not installed: pip install" in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("x.onnx").exists()


@pytest.mark.usefixtures("model")
def test_an_output_that_cannot_be_written(command: CommandLine) -> None:
    Path("folder.onnx").mkdir()
    for target in ("folder.onnx", "/proc/x.onnx"):
        ended = command.run("export", "x.weights", target, "--cfg", "x.cfg")
        assert ended.code == 2
        assert ended.err.count("\n") == 1
