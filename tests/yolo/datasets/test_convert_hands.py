"""tools/convert.py hands: .mat files with the corners of rotated rectangles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from foreign_data import labels, write_image

from yolo.datasets import sources
from yolo.datasets.formats.hands import hand_boxes

scipy_io = pytest.importorskip("scipy.io")


def write_mat(path, hands):
    """boxes: a cell array of structs whose fields a, b, c, d are [y x], as MATLAB saves them"""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((1, len(hands)), object)
    for number, corners in enumerate(hands):
        cells[0, number] = {
            key: np.array([[y, x]], float) for key, (x, y) in zip("abcd", corners, strict=True)
        } | {"e": "wrist"}
    scipy_io.savemat(path, {"boxes": cells})


def rotated(x, y, width, height, degrees):
    """Corners x, y of a turned rectangle."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    halves = [(-width, -height), (width, -height), (width, height), (-width, height)]
    return [(x + (a * c - b * s) / 2, y + (a * s + b * c) / 2) for a, b in halves]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "hand_dataset"
    for part in ("training", "validation", "test"):
        data = folder / f"{part}_dataset" / f"{part}_data"
        write_image(data / "images" / f"{part}_1.jpg", 100, 50)
        write_mat(data / "annotations" / f"{part}_1.mat", [rotated(40, 20, 20, 10, 30)])
    return folder


def test_the_smallest_upright_box_around_the_corners(command, source, tmp_path):
    assert command.run("convert", "hands", source, tmp_path / "o").code == 0
    data = sources.load(tmp_path / "o" / "o.data")
    assert data.names == ("hand",)
    width = 20 * math.cos(math.radians(30)) + 10 * math.sin(math.radians(30))
    height = 20 * math.sin(math.radians(30)) + 10 * math.cos(math.radians(30))
    (row,) = labels(tmp_path / "o", "training_1.jpg")
    np.testing.assert_allclose(row, [0, 0.4, 0.4, width / 100, height / 50], atol=1e-6)


def test_the_official_split(command, source, tmp_path):
    def lists(target, *options):
        assert command.run("convert", "hands", source.parent, target, *options).code == 0
        return [(target / f"{split}.txt").read_text() for split in ("train", "valid")]

    assert lists(tmp_path / "o") == ["images/training_1.jpg\n", "images/test_1.jpg\n"]
    _, valid = lists(tmp_path / "p", "--valid", "validation")
    assert valid == "images/validation_1.jpg\n"


def test_several_hands_overshooting_and_none(tmp_path):
    write_mat(tmp_path / "a.mat", [rotated(0, 20, 20, 10, 0), rotated(50, 20, 0, 10, 0)] * 2)
    boxes = hand_boxes(tmp_path / "a.mat", (100, 50))
    np.testing.assert_allclose(boxes.rows, [[0, 0.05, 0.4, 0.1, 0.2]] * 2, atol=1e-6)
    assert (boxes.clipped, boxes.dropped) == (2, 2)
    write_mat(tmp_path / "b.mat", [])
    assert hand_boxes(tmp_path / "b.mat", (100, 50)).rows.shape == (0, 5)


def test_bad_annotations_are_named_and_skipped(command, source, tmp_path):
    data = source / "training_dataset" / "training_data"
    write_image(data / "images" / "none.jpg")
    for name in ("cut", "junk", "other"):
        write_image(data / "images" / f"{name}.jpg")
    good = (data / "annotations" / "training_1.mat").read_bytes()
    (data / "annotations" / "cut.mat").write_bytes(good[: len(good) // 2])
    (data / "annotations" / "junk.mat").write_bytes(b"junk")
    scipy_io.savemat(data / "annotations" / "other.mat", {"boxes": np.eye(3)})
    ended = command.run("convert", "hands", source, tmp_path / "o")
    assert ended.code == 0
    assert ended.out.count("\nskipped ") == 4
    assert f"skipped {data}/images/none.jpg: there is no {data}/annotations/none.mat" in ended.out


def test_without_scipy_one_line_says_what_to_install(command, source, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    ended = command.run("convert", "hands", source, tmp_path / "o")
    assert ended.err == "error: reading .mat files needs scipy: pip install scipy\n"


def test_another_layout_is_one_line(command, tmp_path):
    ended = command.run("convert", "hands", tmp_path, tmp_path / "o")
    assert ended.err.endswith(
        "training_dataset/training_data: has no folders images/ and annotations/\n"
    )
