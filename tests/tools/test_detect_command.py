"""tools/detect.py: pictures, folders, lists and videos in; pictures with boxes and JSON out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cats_and_dogs import DETECTOR, here, model
from command_line import CommandLine

from yolo.datasets.images import read_image
from yolo.detections import Detections
from yolo.inference.detector import Detector
from yolo.inference.drawing import color, corners, draw, plain
from yolo.inference.runner import TorchRunner
from yolo.models.load import load_model

__all__ = ["here"]  # a fixture
GIVEN = ("--cfg", "x.cfg", "--weights", "x.weights", "--thresh", "0.1")
ONE = Detections(torch.tensor([[0.5, 0.5, 0.4, 0.4]]), torch.tensor([1]), torch.tensor([0.9]))


def entries(path: str = "out.json") -> list[dict]:  # type: ignore[type-arg]
    return json.loads(Path(path).read_text())  # type: ignore[no-any-return]


def test_a_picture(here: Path, command: CommandLine) -> None:
    ended = command.run("detect", *GIVEN, "--data", "x.data", "cat0.png", "--json", "out.json")
    assert (ended.code, ended.err) == (0, "")
    assert re.fullmatch(
        r"cat0\.png: ((cat|dog) ×\d+(, )?)+ \(\d+ ms\) → detections/cat0\.png\n", ended.out
    )
    (entry,) = entries()
    assert (entry["file"], entry["width"], entry["height"]) == ("cat0.png", 60, 40)
    network, _ = load_model("x.cfg", "x.weights")
    detections = Detector(TorchRunner(network), thresh=0.1)(read_image("cat0.png"))
    assert [o["class"] for o in entry["objects"]] == detections.classes.tolist()
    assert [o["confidence"] for o in entry["objects"]] == pytest.approx(
        detections.confidences.tolist()
    )
    for thing, (x, y, w, h) in zip(entry["objects"], detections.boxes.tolist(), strict=True):
        assert thing["name"] == ("cat", "dog")[thing["class"]]
        assert list(thing["relative"].values()) == pytest.approx([x, y, w, h])
        box = [(x - w / 2) * 60, (y - h / 2) * 40, w * 60, h * 40]
        assert list(thing["box"].values()) == pytest.approx(box)
    drawn = read_image("detections/cat0.png")
    assert drawn.shape == (40, 60, 3)
    assert not np.array_equal(drawn, read_image("cat0.png"))


def test_folders_lists_and_equal_names(here: Path, command: CommandLine) -> None:
    Path("more").mkdir()
    cv2.imwrite("more/cat0.bmp", np.zeros((30, 30, 3), np.uint8))
    cv2.imwrite("more/cat0.png", np.zeros((30, 30, 3), np.uint8))
    Path("more/list.txt").write_text("cat0.png\ndog1.png\n")
    ended = command.run("detect", *GIVEN, "more", "more/list.txt", "--out", "out")
    assert (ended.code, ended.err) == (0, "")
    assert len(ended.out.splitlines()) == 4
    made = sorted(path.name for path in Path("out").iterdir())
    assert made == ["cat0-2.png", "cat0.jpg", "cat0.png", "dog1.png"]


def test_what_cannot_be_read_is_left_out(here: Path, command: CommandLine) -> None:
    Path("bad.jpg").write_text("no picture")
    ended = command.run("detect", *GIVEN, "bad.jpg", "none.png", "cat0.png", "none.mp4")
    assert ended.code == 0
    assert re.fullmatch(r"(left out: [^\n]+\n){3}", ended.err)
    for name in ("bad.jpg: not an image", "none.png: can't read", "none.mp4: can't be opened"):
        assert f"left out: {name}" in ended.err.replace("video ", "")
    ended = command.run("detect", *GIVEN, "bad.jpg", "--json", "out.json")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith("error: nothing could be read\n")
    assert not Path("out.json").exists()


def test_a_video(here: Path, command: CommandLine) -> None:
    writer = cv2.VideoWriter("film.avi", cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for number in range(7):
        writer.write(np.full((48, 64, 3), 30 * number, np.uint8))
    writer.release()
    ended = command.run("detect", *GIVEN, "film.avi", "--frames", "5", "--json", "out.json")
    assert ended.code == 0, ended
    assert re.fullmatch(r"film\.avi: \d+ objects in 5 frames → detections/film\.mp4\n", ended.out)
    assert [entry["frame"] for entry in entries()] == [0, 1, 2, 3, 4]
    assert sorted(p.name for p in Path("detections").iterdir()) == ["film.mp4"]
    video = cv2.VideoCapture("detections/film.mp4")
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert video.read()[1].shape == (48, 64, 3)


def test_opencv_finds_the_same(here: Path, command: CommandLine) -> None:
    for engine in ("torch", "opencv"):
        out = f"{engine}.json"
        ended = command.run("detect", *GIVEN, "cat0.png", "--engine", engine, "--json", out)
        assert (ended.code, ended.err) == (0, "")
    (ours,), (theirs,) = entries("torch.json"), entries("opencv.json")
    assert len(ours["objects"]) == len(theirs["objects"]) > 0
    for detected, expected in zip(ours["objects"], theirs["objects"], strict=True):
        assert detected["class"] == expected["class"]
        assert detected["confidence"] == pytest.approx(expected["confidence"], abs=1e-3)


def test_grey_networks(here: Path, command: CommandLine) -> None:
    model(DETECTOR.replace("channels=3", "channels=1"), "x")
    assert command.run("detect", *GIVEN, "cat0.png").code == 0
    assert read_image("detections/cat0.png").shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--names", "long.names"), "x.cfg: has 2 classes, but long.names names 3"),
        (("--names", "no.names"), "no.names: can't read"),
        (("--names", "x.names", "--data", "x.data"), "not allowed with argument"),
        (("--thresh", "2"), "--thresh 2: expected a number from 0 to 1"),
        (("--nms", "nan"), "--nms nan: expected a number from 0 to 1"),
        (("--frames", "0"), "--frames 0: expected at least 1"),
        (("--engine", "abacus"), "--engine: invalid choice"),
        (("--out", "."), "cat0.png: is read here, so it isn't written"),
        (("--out", "x.names"), "x.names is not a directory"),
        (("--cfg", "c.cfg", "--weights", "c.weights"), "c.cfg: has no head that gives boxes"),
        (("empty",), "empty: no pictures or videos in this folder"),
        (("empty.txt",), "empty.txt: no pictures in this list"),
    ],
)
def test_bad_arguments(
    here: Path, command: CommandLine, options: tuple[str, ...], message: str
) -> None:
    Path("long.names").write_text("a\nb\nc\n")
    Path("empty").mkdir()
    Path("empty.txt").touch()
    before = sorted(here.rglob("*"))
    ended = command.run("detect", "cat0.png", *GIVEN, *options)
    assert (ended.code, ended.out) == (2, ""), ended
    assert re.fullmatch(r"error: [^\n]+\n", ended.err), ended.err
    assert message in ended.err
    assert sorted(here.rglob("*")) == before


def test_a_frame_lies_around_its_box() -> None:
    picture = draw(np.zeros((1000, 1500, 3), np.uint8), ONE, ["cat", "dog"])
    left, top, right, bottom = corners(ONE.boxes[0].tolist(), picture.shape)
    assert (left, top, right, bottom) == (450, 300, 1050, 700)
    for y, x in ((500, left), (500, right), (bottom, 800)):
        assert tuple(picture[y, x]) == color(1)
    assert not picture[320:680, 470:1030].any()
    assert not picture[720:].any()


@pytest.mark.parametrize("share", [0.02, 0.05])
def test_text_is_as_high_as_asked(share: float) -> None:
    """It stands on the upper edge of a box, on a ground of that height."""
    picture = draw(np.zeros((1000, 1500, 3), np.uint8), ONE, ["cat", "dog"], share)
    above = picture[:300].any((1, 2))
    assert above.sum() == pytest.approx(1500 * share, abs=4)  # with the line of the frame
    assert above[-1]


@pytest.mark.parametrize("shape", [(40, 60, 3), (1, 1, 3), (9, 700, 3), (3000, 4000, 3)])
def test_text_fits_any_picture(shape: tuple[int, int, int]) -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.1, 0.1], [1.0, 1.0, 3.0, 3.0], [0.5, 0.5, torch.inf, 1.0]])
    detections = Detections(boxes, torch.tensor([0, 1, 1]), torch.tensor([0.5, 0.7, 0.9]))
    picture = np.zeros(shape, np.uint8)
    assert draw(picture, detections, ["cat", "dog"]).any()
    assert not picture.any()


def test_neighbouring_classes_have_other_colors() -> None:
    colors = np.array([color(number) for number in range(80)], float)
    assert len({tuple(c) for c in colors}) == 80
    assert (np.linalg.norm(np.diff(colors, axis=0), axis=1) > 60).all()


def test_names_become_what_the_font_has() -> None:
    assert plain("Füße é 犬 dog") == "Fu?e e ? dog"
