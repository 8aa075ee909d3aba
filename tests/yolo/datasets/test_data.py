"""Where data files lead to: images, names, labels; and what is said about those that are wrong."""

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest
from darknet_library import ALEXEY_LIB
from hypothesis import given
from hypothesis import strategies as st

from yolo.datasets import sources
from yolo.datasets.labels import label_path, read_labels
from yolo.errors import DataError

# a built library of AlexeyAB's Darknet, where one is at hand


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def data_file(folder: Path, text: str, name: str = "x.data") -> str:
    write(folder / "x.names", "cat\ndog\n")
    return str(write(folder / name, text))


LISTED = "classes = 2\ntrain = train.txt\nnames = x.names\n"


def test_paths_lead_from_the_working_directory_before_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data_file(tmp_path / "set", "train = lists/train.txt\nnames = x.names\n")
    write(tmp_path / "set/lists/train.txt", "both.jpg\nhere.jpg\nbeside.jpg\nnowhere.jpg\n")
    for name in ("both.jpg", "here.jpg", "set/lists/both.jpg", "set/lists/beside.jpg"):
        write(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    beside = os.path.join(str(tmp_path), "set/lists/beside.jpg")
    images = sources.images(sources.load(path), "train")
    assert images == ("both.jpg", "here.jpg", beside, "nowhere.jpg")


def test_lists_in_every_spelling(tmp_path: Path) -> None:
    text = "# a comment\r\n classes=2\r\nclasses = 3\r\n\r\ntrain=train.txt\r\nnames = x.names\r\n"
    data = sources.load(data_file(tmp_path, text))
    write(tmp_path / "train.txt", "\ufeffimages/a b.jpg\r\n\r\n  images/c.jpg \nimages/d.jpg")
    for name in ("a b", "c", "d"):
        write(tmp_path / f"images/{name}.jpg")
    assert [Path(i).name for i in sources.images(data, "train")] == ["a b.jpg", "c.jpg", "d.jpg"]
    assert data.names == data.labels == ("cat", "dog")


def test_a_folder_stands_for_all_images_below_it(tmp_path: Path) -> None:
    path = data_file(tmp_path, "valid = pictures\nnames = x.names\ntop = 5\nbackup = out\n")
    for name in ("b/2.PNG", "b/1.jpg", "a/3.jpeg", "a/note.txt"):
        write(tmp_path / "pictures" / name)
    data = sources.load(path)
    images = [os.path.relpath(i, tmp_path / "pictures") for i in sources.images(data, "valid")]
    assert images == ["a/3.jpeg", "b/1.jpg", "b/2.PNG"]
    assert (data.top, data.backup, data.classes) == (5, "out", 2)


YAML = {
    "list of names": "names: [cat, dog]\nnc: 2\n",
    "mapping of names": "names:\n  1: dog\n  0: cat\n",
}


@pytest.mark.parametrize("names", YAML.values(), ids=YAML)
@pytest.mark.parametrize("path", ["", "path: images\n", "path: {root}/images\n"])
def test_yaml_of_the_ultralytics_tools(tmp_path: Path, path: str, names: str) -> None:
    prefix = "" if path else "images/"
    text = f"{path}train: [{prefix}a, {prefix}b.txt]\nval: {prefix}a\n{names}"
    file = write(tmp_path / "x.yaml", text.replace("{root}", str(tmp_path)))
    write(tmp_path / "images/b.txt", "./b/2.jpg\n")
    for name in ("a/1.jpg", "b/2.jpg", "b/3.jpg"):
        write(tmp_path / "images" / name)
    data = sources.load(file)
    assert data.names == ("cat", "dog")
    assert [Path(i).name for i in sources.images(data, "train")] == ["1.jpg", "2.jpg"]
    assert [Path(i).name for i in sources.images(data, "valid")] == ["1.jpg"]


BAD_DATA = {
    "missing file": (None, "can't read the data file"),
    "no names": ("train = train.txt\n", "neither names= nor labels="),
    "names not there": ("names = y.names\n", "x.data:1: there is no y.names"),
    "names empty": ("names = empty.names\n", "empty.names: holds no names"),
    "blank name": ("names = blank.names\n", "blank.names:2: a blank line"),
    "wrong count": ("\nclasses = 3\nnames = x.names\n", "x.data:2: classes=3, but .* has 2 names"),
    "not a count": ("classes = two\nnames = x.names\n", "x.data:1: classes=two is not"),
    "no value": ("classes\n", "x.data:1: expected key = value"),
    "labels and names": ("names = x.names\nlabels = one.names\n", "2 names, but 1 labels"),
}


@pytest.mark.parametrize(("text", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_file(tmp_path: Path, text: str | None, message: str) -> None:
    write(tmp_path / "empty.names", "\n")
    write(tmp_path / "blank.names", "cat\n\ndog\n")
    write(tmp_path / "one.names", "cat\n")
    path = data_file(tmp_path, text) if text is not None else str(tmp_path / "x.data")
    with pytest.raises(DataError, match=message):
        sources.load(path)


BAD_YAML = {
    "not YAML": ("names: [a\nb: }", "x.yaml:2: "),
    "not a mapping": ("- a\n", "expected train:, val: and names:"),
    "no names": ("train: a\n", "no names"),
    "a gap": ("names: {0: a, 2: b}\n", "count from 0"),
    "wrong count": ("names: [a, b]\nnc: 3\n", "nc: 3, but there are 2 names"),
    "nested name": ("names: [[a], b]\n", "every name must be a text"),
    "no path": ("names: [a]\ntrain: 7\n", "x.yaml:2: train is neither a path"),
    "root": ("names: [a]\npath: [b]\n", "path must be a text"),
}


@pytest.mark.parametrize(("text", "message"), BAD_YAML.values(), ids=BAD_YAML)
def test_bad_yaml(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        sources.load(write(tmp_path / "x.yaml", text))


BAD_LISTS = {
    "no key": ("names = x.names\n", None, "names no train images"),
    "no list": (LISTED, None, "x.data:2: there is no train.txt"),
    "empty": (LISTED, "\n \r\n", "x.data:2: train has no images"),
    "no image": (LISTED, "a.jpg\nb.jpg\n", "none of the 2 images of train exists.*a.jpg"),
}


@pytest.mark.parametrize(("text", "listed", "message"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_bad_list(tmp_path: Path, text: str, listed: str | None, message: str) -> None:
    data = sources.load(data_file(tmp_path, text))
    if listed is not None:
        write(tmp_path / "train.txt", listed)
    with pytest.raises(DataError, match=message):
        sources.images(data, "train")


CLASSES = {
    "in the file's name": ("img/7_dog.png", 1),
    "in the folder's": ("cat/7.png", 0),
    "both, one a folder": ("cat/dogged.png", 0),
    "none": ("cow/7.png", "has none"),
    "two": ("x/cat_dog.png", "has cat, dog"),
}


@pytest.mark.parametrize(("listed", "expected"), CLASSES.values(), ids=CLASSES)
def test_the_class_of_a_classifiers_image(tmp_path: Path, listed: str, expected: int | str) -> None:
    """What stands in front of the listed path doesn't count"""
    folder = tmp_path / "catalogue"
    data = sources.load(data_file(folder, LISTED))
    write(folder / "train.txt", f"{listed}\n")
    write(folder / listed)
    items = sources.items(data, "train")
    if isinstance(expected, int):
        assert items.class_of(0) == expected
    else:
        with pytest.raises(DataError, match=f"{listed}: .*{expected}"):
            items.class_of(0)


LABEL_PATHS = {
    "x/images/train2017/1.jpg": "x/labels/train2017/1.txt",
    "images/val2014/1.PNG": "labels/val2014/1.txt",
    "VOC2007/JPEGImages/1.jpeg": "VOC2007/labels/1.txt",
    "x.jpg/a.b/1.jpg": "x.jpg/a.b/1.txt",
    "images/1.jpg": "images/1.txt",
    "x/images/1.tiff": "x/images/1.txt",
}


@pytest.mark.parametrize(("image", "label"), LABEL_PATHS.items())
def test_without_a_file_the_label_is_where_darknet_looks(image: str, label: str) -> None:
    assert label_path(image) == label


@pytest.mark.skipif(not ALEXEY_LIB, reason="needs ALEXEY_LIB, a library of AlexeyAB's Darknet")
@pytest.mark.parametrize("image", ["./" + image for image in LABEL_PATHS])
def test_label_paths_of_alexeyab(image: str) -> None:
    out = ctypes.create_string_buffer(4096)
    ctypes.CDLL(ALEXEY_LIB).replace_image_to_label(image.encode(), out)
    assert label_path(image) == out.value.decode()


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/1.jpg", "labels/1.txt"),
        ("images/a/1.jpg", "labels/a/1.txt"),
        ("images/images/1.jpg", "images/labels/1.txt"),
        ("x/JPEGImages/1.jpg", "x/JPEGImages/1.txt"),
        ("images/1.webp", "images/1.txt"),
    ],
)
def test_the_first_label_file_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, label: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / label)
    assert label_path(image) == label
    assert label_path(str(tmp_path / image)) == str(tmp_path / label)


BAD_LABELS = {
    "too few columns": ("0 .5 .5 .1", ":2: 4 columns"),
    "too many columns": ("0 .5 .5 .1 .1 .9", ":2: 6 columns"),
    "nan": ("0 .5 nan .1 .1", ":2: y 'nan' is not a finite number"),
    "infinite": ("0 .5 .5 inf .1", ":2: width 'inf' is not a finite number"),
    "too large": ("0 .5 .5 1e99 .1", ":2: width '1e99' is not a finite number"),
    "text": ("0 .5 .5 .1 wide", ":2: height 'wide' is not a finite number"),
    "name": ("cat .5 .5 .1 .1", ":2: class 'cat' is not"),
    "broken class": ("0.5 .5 .5 .1 .1", ":2: class '0.5' is not an integer"),
    "class too large": ("2 .5 .5 .1 .1", ":2: class 2, but there are 2 classes"),
    "class below 0": ("-1 .5 .5 .1 .1", ":2: class -1, but there are 2 classes"),
}


@pytest.mark.parametrize(("line", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
@pytest.mark.parametrize("clip", [True, False])
def test_bad_labels(tmp_path: Path, line: str, message: str, clip: bool) -> None:
    write(tmp_path / "1.txt", f"1 .5 .5 .1 .1\n{line}\n")
    with pytest.raises(DataError, match=f"1.txt{message}"):
        read_labels(str(tmp_path / "1.jpg"), 2, clip=clip)


def test_boxes_are_clipped_and_dropped_and_counted(tmp_path: Path) -> None:
    rows = [
        "0 .5 .5 .25 .5",  # fits
        "1 .5 .5 1.00001 1",  # so little is rounding
        "0 .9 .5 .4 .5",  # overshoots to the right
        "1 .5 .5 0 .5",  # no width
        "1 .5 .5 .5 -.5",  # negative height
        "0 1.5 .5 .4 .5",  # outside
    ]
    write(tmp_path / "1.txt", "\r\n".join(rows) + "\r\n\r\n")
    labels = read_labels(str(tmp_path / "1.jpg"), 2)
    expected = [[0, 0.5, 0.5, 0.25, 0.5], [1, 0.5, 0.5, 1, 1], [0, 0.85, 0.5, 0.3, 0.5]]
    assert labels.boxes == pytest.approx(np.array(expected), abs=1e-6)
    assert (labels.clipped, labels.dropped, labels.missing) == (1, 3, False)
    raw = read_labels(str(tmp_path / "1.jpg"), 2, clip=False)
    values = np.array([[float(x) for x in row.split()] for row in rows], np.float32)
    assert np.array_equal(raw.boxes, values)
    assert (raw.clipped, raw.dropped) == (0, 0)


unit = st.floats(-0.5, 1.5, width=32)


@given(x=unit, y=unit, w=unit, h=unit)
def test_clipping_is_the_intersection_with_the_image(
    tmp_path_factory: pytest.TempPathFactory, x: float, y: float, w: float, h: float
) -> None:
    file = tmp_path_factory.getbasetemp() / "clip.txt"
    file.write_text(f"0 {x!r} {y!r} {w!r} {h!r}\n")
    boxes = read_labels(str(file.with_suffix(".jpg")), 1).boxes
    left, right = max(0, x - w / 2), min(1, x + w / 2)
    top, bottom = max(0, y - h / 2), min(1, y + h / 2)
    least = min(w, h, right - left, bottom - top)
    if least <= 1e-6:
        # what is hardly there may go or stay: it is rounded to single precision
        assert len(boxes) == 0 or boxes[0, 3:].min() <= 1e-6 + 1e-7
    else:
        expected = [0, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        assert boxes == pytest.approx(np.array([expected]), abs=1e-6)


def test_no_label_file_and_an_empty_one(tmp_path: Path) -> None:
    write(tmp_path / "empty.txt")
    empty, missing = (read_labels(str(tmp_path / f"{n}.jpg"), 1) for n in ("empty", "missing"))
    assert empty.boxes.shape == missing.boxes.shape == (0, 5)
    assert (empty.missing, missing.missing) == (False, True)


def test_real_labels(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/hands"
    text = f"train={folder}/train.txt\nvalid={folder}/valid.txt\nnames={folder}/hands.names\n"
    data = sources.load(data_file(tmp_path, text))
    images = sources.images(data, "train")
    assert (len(images), len(sources.images(data, "valid")), data.classes) == (800, 200, 1)
    label_files = [read_labels(image, data.classes) for image in images]
    assert not any(labels.missing for labels in label_files)
    assert sum(labels.clipped for labels in label_files) > 50
    boxes = np.concatenate([labels.boxes for labels in label_files])
    assert (boxes[:, 1:3] - boxes[:, 3:] / 2).min() >= -1e-4
    assert (boxes[:, 1:3] + boxes[:, 3:] / 2).max() <= 1 + 1e-4
