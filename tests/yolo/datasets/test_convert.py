"""tools/convert.py: the layout that it writes, what it refuses, and Pascal VOC."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import TOOLS
from foreign_data import write_image, write_voc
from hypothesis import given
from hypothesis import strategies as st

from tools.common.convert import CONVERTERS
from yolo.datasets import sources
from yolo.datasets.formats import FORMATS
from yolo.datasets.formats import folder as folder_module
from yolo.datasets.formats.common import random_split, target_paths
from yolo.datasets.formats.layout import Destination, row_text, write
from yolo.datasets.formats.pictures import CheckedBoxes, Dataset, Picture, relative
from yolo.datasets.labels import read_labels
from yolo.errors import DataError


def tiny(splits: tuple[str, ...] = ("train", "valid"), name: str = "x") -> Dataset:
    boxes = CheckedBoxes(np.array([[0, 0.5, 0.5, 0.25, 0.5]], np.float32), 1, 2)
    pictures = [Picture(f"images/{i}.jpg", b"image", splits, boxes) for i in range(3)]
    return Dataset(name, ("a thing",), pictures, 3)


# ---- the layout


def test_lists_and_names_move_with_the_folder(tmp_path, monkeypatch):
    write(tiny(), Destination(tmp_path / "here", tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir("/")
    data = sources.load(tmp_path / "there" / "x.data")
    assert data.names == ("a thing",)
    expected = [str(tmp_path / "there" / "images" / f"{i}.jpg") for i in range(3)]
    assert [str(Path(path)) for path in sources.images(data, "train")] == expected


def test_a_data_file_above_the_folder(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("stays")
    summary = write(tiny(name="x"), Destination(tmp_path / "x", tmp_path))
    assert (summary.images, summary.boxes) == ({"train": 3, "valid": 3}, 3)
    assert (summary.clipped, summary.dropped) == (3, 6)
    assert sorted(os.listdir(tmp_path)) == ["README.md", "x", "x.data", "x.names"]
    monkeypatch.chdir("/")
    assert len(sources.images(sources.load(tmp_path / "x.data"), "valid")) == 3


def test_absolute_paths_and_labels_where_darknet_looks(tmp_path):
    write(tiny(), Destination(tmp_path / "x", tmp_path / "x", absolute=True))
    listed = (tmp_path / "x" / "train.txt").read_text().split()
    assert listed[0] == str(tmp_path / "x" / "images" / "0.jpg")
    beside = tmp_path / "x" / "images" / "0.txt"
    assert beside.read_text() == "0 0.5 0.5 0.25 0.5\n"
    options = dict(
        line.split(" = ") for line in (tmp_path / "x" / "x.data").read_text().splitlines()[1:]
    )
    assert all(Path(options[key]).is_absolute() for key in ("train", "valid", "names", "backup"))


def test_an_image_is_no_copy_where_links_work(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png")
    picture = Picture(
        "images/a.png",
        tmp_path / "a.png",
        ("train", "valid"),
        relative([0], [(0, 0, 1, 1)], 1, 1),
    )
    dataset = Dataset("x", ("a",), [picture], 1)
    write(dataset, Destination(tmp_path / "linked", tmp_path / "linked"))
    assert (tmp_path / "linked" / "images" / "a.png").samefile(tmp_path / "a.png")

    def no_links(*_: object) -> None:
        raise OSError(1, "not permitted")

    monkeypatch.setattr(folder_module.os, "link", no_links)
    write(dataset, Destination(tmp_path / "copied", tmp_path / "copied"))
    copy = tmp_path / "copied" / "images" / "a.png"
    assert not copy.samefile(tmp_path / "a.png")
    assert copy.read_bytes() == (tmp_path / "a.png").read_bytes()


def test_a_failure_leaves_nothing(tmp_path):
    def pictures():
        yield from tiny().pictures
        raise KeyboardInterrupt

    destination = Destination(tmp_path / "new" / "x", tmp_path / "new" / "x")
    with pytest.raises(KeyboardInterrupt):
        write(Dataset("x", ("a",), pictures(), 3), destination)
    assert os.listdir(tmp_path) == []


def test_a_failure_keeps_what_was_there(tmp_path):
    destination = Destination(tmp_path / "x", tmp_path / "x")
    write(tiny(), destination)
    with pytest.raises(DataError, match=r"no usable image for valid\.txt"):
        write(tiny(splits=("train",)), destination)
    assert os.listdir(tmp_path) == ["x"]
    assert len((tmp_path / "x" / "valid.txt").read_text().split()) == 3


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module.Path, "write_bytes", full)
    with pytest.raises(DataError, match="can't write: no space left"):
        write(tiny(), Destination(tmp_path / "x", tmp_path / "x"))
    assert os.listdir(tmp_path) == []


@given(
    st.lists(
        st.tuples(st.integers(0, 3), *[st.floats(-30, 130, width=32)] * 4), min_size=1, max_size=6
    )
)
def test_labels_read_back_as_they_were_written(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("labels")
    boxes = relative([b[0] for b in drawn], [b[1:] for b in drawn], 100, 80)
    (folder / "x.txt").write_text("".join(map(row_text, boxes.rows)))
    plain = read_labels(str(folder / "x.jpg"), 4, clip=False)
    np.testing.assert_array_equal(plain.boxes, boxes.rows)
    clipped = read_labels(str(folder / "x.jpg"), 4)
    assert (clipped.clipped, clipped.dropped) == (0, 0)
    np.testing.assert_allclose(clipped.boxes, boxes.rows, atol=1e-6)


@given(st.tuples(*[st.floats(-50, 150)] * 4))
def test_a_box_is_what_of_it_lies_in_the_image(corners):
    x1, y1, x2, y2 = corners
    boxes = relative([2], [corners], 100, 80)
    left, right = max(0, min(x1, 100)), max(0, min(x2, 100))
    top, bottom = max(0, min(y1, 80)), max(0, min(y2, 80))
    if right - left < 1e-6 or bottom - top < 1e-6:  # float32 can't tell less
        assert len(boxes.rows) + boxes.dropped == 1
        return
    expected = [2, (left + right) / 200, (top + bottom) / 160, (right - left) / 100]
    np.testing.assert_allclose(boxes.rows[0], [*expected, (bottom - top) / 80], atol=1e-6)
    outside = max(-x1, -y1, x2 - 100, y2 - 80)
    assert boxes.clipped == (outside > 5e-4)


def test_boxes_without_numbers_or_area_are_dropped():
    bad = [[np.nan, 0, 5, 5], [0, 0, np.inf, 5], [5, 5, 5, 9], [9, 5, 2, 9], [200, 0, 210, 9]]
    boxes = relative([0] * 6, [*bad, [1, 1, 3, 3]], 100, 80)
    assert (len(boxes.rows), boxes.dropped, boxes.clipped) == (1, 5, 0)


def test_names_that_would_share_a_label_file_get_a_number():
    paths = [Path("a/x.jpg"), Path("b/x.png"), Path("b/X.jpg"), Path("a/x.jpg"), Path("a/y z .jpg")]
    assert list(target_paths(paths).values()) == [
        "images/x.jpg",
        "images/x-2.png",
        "images/X-3.jpg",
        "images/y z.jpg",
    ]


def test_a_split_by_chance():
    items = [str(number) for number in range(100)]
    split = random_split(items, 0.2, 0)
    assert sorted(split.values()).count(("valid",)) == 20
    assert split == random_split(items, 0.2, 0) != random_split(items, 0.2, 1)
    assert set(random_split(items, 0, 0).values()) == {("train", "valid")}
    with pytest.raises(DataError, match="valid-share 1"):
        random_split(items, 1, 0)


# ---- the command


def test_what_is_there_stays(command, tmp_path):
    source, target = write_voc(tmp_path / "voc", {"a": [("cat", "0", "1 1 9 9")]}), tmp_path / "out"
    target.mkdir()
    (target / "notes").write_text("mine")
    for force in ((), ("--force",)):
        ended = command.run("convert", "voc", source, target, *force)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(f"error: {target}: exists and was not made by convert.py")
    (target / "notes").unlink()
    assert command.run("convert", "voc", source, target).code == 0
    ended = command.run("convert", "voc", source, target)
    assert ended.err == f"error: {target}: exists already; use --force to replace it\n"
    assert command.run("convert", "voc", source, target, "--force").code == 0
    (target / "mine.weights").write_text("precious")
    ended = command.run("convert", "voc", source, target, "--force")
    assert "mine.weights: was not made by convert.py" in ended.err
    assert (target / "mine.weights").exists()


def test_skipped_images_are_named_up_to_ten(command, tmp_path):
    images = {f"{number:02}": [("cat", "0", "1 1 9 9")] for number in range(13)}
    source = write_voc(tmp_path / "voc", images)
    for number in range(12):
        (source / "JPEGImages" / f"{number:02}.jpg").write_bytes(b"\xff\xd8 not an image")
    ended = command.run("convert", "voc", source, tmp_path / "o", "--json", tmp_path / "j")
    assert ended.code == 0
    assert ended.out.count("\nskipped ") == 10
    assert f"skipped {source}/JPEGImages/00.jpg: " in ended.out
    assert "… and 2 more" in ended.out
    assert '"train": 1' in (tmp_path / "j").read_text()


def test_an_unknown_form_is_one_line(command):
    ended = command.run("convert", "pascal", "a", "b")
    assert ended.code == 2
    assert ended.err.count("\n") == 1


HELP = """
import runpy, sys
sys.argv = [sys.argv[1], *sys.argv[2:], "--help"]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as ended:
    print({"torch", "scipy", "sklearn"} & set(sys.modules), ended.code)
"""


@pytest.mark.parametrize("form", ["", *FORMATS, *CONVERTERS])
def test_help_is_quick_for_it_imports_nothing_large(form):
    arguments = [sys.executable, "-c", HELP, str(TOOLS / "convert.py"), *filter(None, [form])]
    environment = {**os.environ, "PYTHONPATH": str(TOOLS)}
    ended = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=True)
    assert ended.stdout.startswith(f"usage: convert.py {form}".rstrip())
    assert ended.stdout.endswith("set() 0\n")
