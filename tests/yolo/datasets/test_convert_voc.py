"""tools/convert.py voc: XML, ImageSets, Darknet's pixel convention."""

from __future__ import annotations

import re

import numpy as np
import pytest
from foreign_data import labels, write_sets, write_voc

from yolo.datasets import sources
from yolo.datasets.formats.voc import VocOptions, voc
from yolo.datasets.labels import read_labels
from yolo.errors import DataError

OBJECTS = {
    "a": [("cat", "0", "5 3 25 13"), ("dog", "1", "1 1 9 9"), ("ant", "0", "1 1 9 9")],
    "b": [("dog", "0", "30 5 60 25"), ("dog", "0", "9 9 9 12"), ("dog", "0", "x 9 9 12")],
}


@pytest.fixture
def source(tmp_path):
    return write_voc(tmp_path / "voc", OBJECTS)


def darknets_box(size, box):
    """convert() of Darknet's scripts/voc_label.py, for xmin, xmax, ymin, ymax"""
    dw, dh = 1 / size[0], 1 / size[1]
    x, y = (box[0] + box[1]) / 2 - 1, (box[2] + box[3]) / 2 - 1
    return [x * dw, y * dh, (box[1] - box[0]) * dw, (box[3] - box[2]) * dh]


def test_boxes_as_darknets_script(command, source, tmp_path):
    assert command.run("convert", "voc", source, tmp_path / "o").code == 0
    assert sources.load(tmp_path / "o" / "o.data").names == ("ant", "cat", "dog")
    first, second = labels(tmp_path / "o", "a.jpg")
    assert first == [1, *np.round(darknets_box((40, 20), (5, 25, 3, 13)), 6)]
    assert second[0] == 0


def test_bad_boxes_are_counted(command, source, tmp_path):
    ended = command.run("convert", "voc", source, tmp_path / "o", "--offset", "0")
    rows = dict(re.findall(r"\| (.*?) +\| +(\d+) \|", ended.out))
    assert rows["boxes"] == "3"
    assert rows["of them clipped"] == "1"
    assert rows["dropped: no area"] == "2"
    assert rows["left out: difficult"] == "1"
    assert labels(tmp_path / "o", "b.jpg") == [[2, 0.875, 0.625, 0.25, 0.75]]


def test_difficult_ones_and_names_are_chosen(command, source, tmp_path):
    (tmp_path / "n").write_text("dog\ncat\n")
    options = ("--difficult", "keep", "--names", tmp_path / "n")
    ended = command.run("convert", "voc", source, tmp_path / "o", *options)
    assert [row[0] for row in labels(tmp_path / "o", "a.jpg")] == [1, 0]
    assert re.search(r"left out: of other classes +\| +1 ", ended.out)


def test_sets_are_followed(source):
    def splits(**options):
        dataset = voc(source, VocOptions(**options))
        return {picture.path[7:-4]: picture.splits for picture in dataset.pictures}

    write_sets(source, train="a", val="b", trainval="a b", test="b")
    assert splits() == {"a": ("train",), "b": ("train", "valid")}
    assert splits(train=("train",), valid=("val",)) == {"a": ("train",), "b": ("valid",)}
    (source / "ImageSets" / "Main" / "test.txt").unlink()
    assert splits() == {"a": ("train",), "b": ("valid",)}
    with pytest.raises(DataError, match=r"none\.txt"):
        splits(train=("none",))
    (source / "ImageSets" / "Main" / "val.txt").unlink()
    with pytest.raises(DataError, match="test or val for valid"):
        splits()


def test_what_the_sets_name_and_is_not_there_is_skipped(source):
    write_sets(source, train="a ghost", val="b")
    (source / "JPEGImages" / "b.jpg").unlink()
    pictures = list(voc(source, VocOptions()).pictures)
    reasons = {each.name.split("/")[-1]: each.reason for each in pictures[:1] + pictures[2:]}
    assert "no such file" in reasons["ghost.xml"]
    assert reasons["b"] == "there is no image of this name"
    assert pictures[1].path == "images/a.jpg"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<annotation><object>", "not XML"),
        (b"", "not XML"),
        (b"<html/>", "expected <annotation>"),
        (b"<annotation><object/></annotation>", "without a name"),
        (b'<!DOCTYPE a [<!ENTITY b "cc">]><annotation>&b;</annotation>', "entities"),
        ("<!DOCTYPE a><annotation/>".encode("utf-16"), "entities"),
        (b"<annotation>" + b" " * 10_000_000 + b"</annotation>", "too large"),
    ],
)
def test_bad_annotations_are_named(source, content, reason):
    (source / "Annotations" / "a.xml").write_bytes(content)
    first, second = voc(source, VocOptions()).pictures
    assert first.name.endswith("Annotations/a.xml")
    assert reason in first.reason
    assert second.path == "images/b.jpg"


def test_nothing_left_is_an_error(command, source, tmp_path):
    for name in ("a", "b"):
        (source / "JPEGImages" / f"{name}.jpg").write_bytes(b"")
    ended = command.run("convert", "voc", source, tmp_path / "o")
    assert ended.code == 2
    assert "no usable image for train.txt" in ended.err
    assert "the image file is empty" in ended.err
    assert not (tmp_path / "o").exists()


def test_no_voc_folder(command, tmp_path):
    ended = command.run("convert", "voc", tmp_path, tmp_path / "o")
    assert ended.err == f"error: {tmp_path}: has no folder Annotations or annotations\n"


def test_blood_cells(command, shared, tmp_path):
    ended = command.run("convert", "voc", shared / "data" / "bccd", tmp_path / "o")
    assert ended.code == 0
    data = sources.load(tmp_path / "o" / "o.data")
    train, valid = sources.images(data, "train"), sources.images(data, "valid")
    assert data.names == ("Platelets", "RBC", "WBC")
    assert (len(train), len(valid)) == (292, 72)
    label_files = [read_labels(image, 3) for image in train + valid]
    # 4,888 boxes, of which two have no area
    assert sum(len(each.boxes) for each in label_files) == 4886
    assert re.search(r"dropped: no area +\| +2 ", ended.out)
    assert sum(each.clipped + each.dropped for each in label_files) == 0


def test_no_image_sets(command, shared, tmp_path):
    options = ("--valid-share", ".2", "--difficult", "keep")
    ended = command.run("convert", "voc", shared / "data" / "voc100", tmp_path / "o", *options)
    assert re.search(r"boxes +\| +273 ", ended.out)
    data = sources.load(tmp_path / "o" / "o.data")
    train, valid = set(sources.images(data, "train")), set(sources.images(data, "valid"))
    assert (len(train), len(valid), train & valid) == (80, 20, set())
