"""tools/test.py as a stranger meets it, and what tools/prune.py --data adds to the report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from cats_and_dogs import here
from command_line import CommandLine

from yolo.models.checkpoint import Checkpoint, checkpoint_writer
from yolo.models.load import load_model

__all__ = ["here"]  # a fixture


def arguments(stem: str = "x") -> tuple[str, ...]:
    model = ("--cfg", f"{stem}.cfg", "--weights", f"{stem}.weights", "--data", "x.data")
    return (*model, "--workers", "0")


def test_mean_average_precision_is_reported(here: Path, command: CommandLine) -> None:
    ended = command.run("test", *arguments(), "--json", "out.json", "--coco", "--points", "11")
    assert (ended.code, ended.err) == (0, "")
    data = json.loads(Path("out.json").read_text())
    assert f"{data['map']:.6f}" in ended.out
    assert (data["images"], data["points"], data["skipped"]) == (5, 11, [])
    assert [c["name"] for c in data["per_class"]] == ["cat", "dog"]
    assert [c["truths"] for c in data["per_class"]] == [3, 2]
    assert data["tp"] + data["fn"] == 5
    assert {"precision", "recall", "f1", "iou"} <= data.keys()
    assert data["coco"].keys() == {"AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge"}


def test_thresholds_and_sizes_count(here: Path, command: CommandLine) -> None:
    results = {}
    for option in (
        "--iou-thresh=0",
        "--conf-thresh=0.01",
        "--size=64x48",
        "--letterbox",
        "--batch=1",
    ):
        command.run("test", *arguments(), option, "--json", "out.json")
        results[option] = json.loads(Path("out.json").read_text())
    positives = {option: result["tp"] + result["fp"] for option, result in results.items()}
    assert positives["--conf-thresh=0.01"] > positives["--iou-thresh=0"]
    assert results["--iou-thresh=0"]["map"] > results["--batch=1"]["map"]
    # a larger input has more cells
    assert positives["--size=64x48"] != positives["--batch=1"] != positives["--letterbox"]


def test_classifiers(here: Path, command: CommandLine) -> None:
    ended = command.run("test", *arguments("c"), "--json", "out.json")
    assert ended.code == 0, ended
    data = json.loads(Path("out.json").read_text())
    assert (data["top2"], data["images"]) == (1, 5)
    assert re.search(rf"top-1 +\| +{data['top1']:.4f}", ended.out)


def test_a_checkpoint_brings_its_cfg(here: Path, command: CommandLine) -> None:
    network, header = load_model("x.cfg", "x.weights")
    with open("x.pt", "wb") as file:
        checkpoint_writer(Checkpoint(network.cfg, network.state(), header))(file)
    wanted = command.run("test", *arguments()).out
    ended = command.run("test", "--weights", "x.pt", "--data", "x.data", "--workers", "0")
    assert (ended.code, ended.out) == (0, wanted)


def test_unreadable_images_are_named(here: Path, command: CommandLine) -> None:
    Path("dog1.png").write_text("no picture")
    ended = command.run("test", *arguments(), "--json", "out.json")
    assert ended.code == 0, ended
    assert re.search(r"Left out: .*dog1\.png: not an image", ended.out)
    data = json.loads(Path("out.json").read_text())
    assert data["images"] == 4
    assert [Path(path).name for path, _ in data["skipped"]] == ["dog1.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data", "no.data"), "no.data: can't read the data file"),
        (("--weights", "no.weights"), "no.weights: can't read the weights"),
        (("--iou-thresh", "1"), "--iou-thresh 1: expected at least 0, below 1"),
        (("--conf-thresh", "nan"), "--conf-thresh nan: expected"),
        (("--points", "12"), "--points: invalid choice: 12"),
        (("--batch", "0"), "--batch 0: expected at least 1"),
        (("--workers", "-1"), "--workers -1: expected at least 0"),
        (("--size", "64"), "--size: '64': expected a size like 416x416"),
        (("--size", "0x64"), "--size: '0x64': expected a size like 416x416"),
        (("--device", "abacus"), "--device abacus: "),
        (("--split", "test"), "--split: invalid choice: 'test'"),
        (("--json", "x.data"), "x.data: is read here, so it isn't written"),
        (("--json", "x.names/out.json"), "x.names is not a directory"),
    ],
)
def test_bad_arguments(
    here: Path, command: CommandLine, options: tuple[str, ...], message: str
) -> None:
    before = sorted(here.rglob("*"))
    ended = command.run("test", *arguments(), *options)
    assert (ended.code, ended.out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", ended.err), ended.err
    assert message in ended.err
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("tool", ["test", "prune"])
@pytest.mark.parametrize("stem", ["x", "c"])
def test_data_of_other_classes(here: Path, command: CommandLine, stem: str, tool: str) -> None:
    Path("x.names").write_text("cat\ndog\ncow\n")
    Path("x.data").write_text("valid=valid.txt\nnames=x.names\n")
    options = arguments(stem) if tool == "test" else arguments(stem)[:-2]
    ended = command.run(tool, *options)
    assert ended.code == 2
    assert f"{stem}.cfg: has 2 classes, but x.data names 3" in ended.err
    assert not Path("pruned").exists()


@pytest.mark.parametrize(
    ("stem", "key", "points", "title"),
    [
        ("x", "map", "0", "mAP at IoU 0.5"),
        ("x", "map", "11", "mAP at IoU 0.5 and 11 recalls"),
        ("c", "top1", "0", "top-1"),
    ],
)
def test_prune_reports_the_accuracy(
    here: Path, command: CommandLine, stem: str, key: str, points: str, title: str
) -> None:
    light = ("--verify", "torch", "--runs", "0", "--json", "out.json", "--points", points)
    ended = command.run("prune", *arguments(stem)[:-2], "--percent", "0.5", *light)
    assert ended.code == 0, ended
    report = json.loads(Path("out.json").read_text())
    for cut, cfg, weights in (
        ("before", f"{stem}.cfg", f"{stem}.weights"),
        ("after", report["files"]["cfg"], report["files"]["weights"]),
    ):
        options = ("--cfg", cfg, "--weights", weights, "--points", points)
        command.run("test", *arguments(), *options, "--json", "test.json")
        measured = json.loads(Path("test.json").read_text())[key]
        assert report[cut][key] == pytest.approx(measured, abs=1e-3)
    row = f"{title} +\\| +{report['before'][key]:.4f} +\\| +{report['after'][key]:.4f}"
    assert re.search(row, ended.out)


def test_prune_without_data_reports_no_accuracy(here: Path, command: CommandLine) -> None:
    light = ("--verify", "none", "--runs", "0", "--json", "out.json")
    ended = command.run("prune", "--cfg", "x.cfg", "--weights", "x.weights", *light)
    report = json.loads(Path("out.json").read_text())
    assert report["before"]["map"] is None
    assert "top1" not in report["before"]
    assert "mAP" not in ended.out


@pytest.mark.parametrize("stem", ["x", "c"])
def test_engines_give_the_same(here: Path, command: CommandLine, stem: str) -> None:
    """Of a detector and of a classifier, of weights and of the .onnx file that is deployed."""
    pytest.importorskip("onnxruntime")
    model = arguments(stem)[:4]
    exported = command.run("export", f"{stem}.weights", "m.onnx", "--cfg", f"{stem}.cfg")
    assert exported.code == 0, exported.err
    wanted = command.run("test", *arguments(stem)).out
    rest = ("--data", "x.data", "--workers", "0")
    for words in (
        (*model, "--engine", "onnxruntime"),
        (*model, "--engine", "opencv"),
        ("--weights", "m.onnx"),
        ("--weights", "m.onnx", "--engine", "opencv"),
    ):
        ended = command.run("test", *words, *rest)
        assert (ended.code, ended.out) == (0, wanted), words


def test_ready_detections_are_no_measure(here: Path, command: CommandLine) -> None:
    pytest.importorskip("onnxruntime")
    command.run("export", "x.weights", "m.onnx", "--cfg", "x.cfg", "--boxes", "nms")
    ended = command.run("test", "--weights", "m.onnx", "--data", "x.data", "--workers", "0")
    assert ended.code == 2
    assert "export it with --thresh 0.005" in ended.err
    assert ended.err.count("\n") == 1
