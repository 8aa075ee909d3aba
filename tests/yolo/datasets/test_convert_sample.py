"""tools/convert.py sample and anchors: the embedded data set, and anchors that fit a data set."""

from __future__ import annotations

import hashlib
import sys

import cv2
import numpy as np
import pytest
from paths import DIGITS

from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.datasets.anchors import fit_anchors
from yolo.datasets.formats import sample as sample_module
from yolo.datasets.formats.sample import sample
from yolo.datasets.labels import read_labels
from yolo.errors import DataError
from yolo.network import Network

pytest.importorskip("sklearn")
COUNTS = {"train": 12, "valid": 4}


def digest(**options):
    """Of the pictures and boxes, in order."""
    sha = hashlib.sha256()
    for picture in sample(COUNTS, **options).pictures:
        sha.update(picture.path.encode() + picture.content + picture.boxes.rows.tobytes())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def scenes():
    return list(sample(COUNTS).pictures)


@pytest.fixture(scope="module")
def many_boxes():
    return np.concatenate([p.boxes.rows for p in sample({"train": 100}).pictures])


def test_two_runs_are_equal():
    assert digest() == digest()
    assert digest() != digest(seed=1)


def test_it_comes_beside_what_is_there(command, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("stays")
    arguments = ("sample", tmp_path, "--train", "6", "--valid", "2")
    assert command.run("convert", *arguments).code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["README.md", "digits", "digits.data", "digits.names"]
    monkeypatch.chdir("/")
    data = sources.load(tmp_path / "digits.data")
    assert data.names == tuple("0123456789")
    assert (len(sources.images(data, "train")), len(sources.images(data, "valid"))) == (6, 2)
    for image in sources.images(data, "train") + sources.images(data, "valid"):
        assert cv2.imread(image).shape == (160, 160, 3)
        labels = read_labels(image, 10)
        assert 1 <= len(labels.boxes) <= 5
        assert (labels.clipped, labels.dropped, labels.missing) == (0, 0, False)
    assert command.run("convert", *arguments).code == 2
    assert command.run("convert", *arguments, "--force").code == 0
    assert len(list(tmp_path.iterdir())) == 4


def test_boxes_hold_what_was_drawn(scenes, monkeypatch):
    """The difference to the same scenes without digits is inside the boxes, and fills them."""

    def draw_nothing(image, ink, box, random):
        random.uniform(size=5)  # as many numbers as a digit takes

    monkeypatch.setattr(sample_module, "_draw", draw_nothing)
    for with_digits, without in zip(scenes, sample(COUNTS).pictures, strict=True):
        np.testing.assert_array_equal(with_digits.boxes.rows, without.boxes.rows)
        images = [
            cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR).astype(int)
            for picture in (with_digits, without)
        ]
        changed = np.abs(images[0] - images[1]).max(axis=2) > 40
        inside = np.zeros((160, 160), bool)
        for _, x, y, w, h in with_digits.boxes.rows:
            rows = slice(round((y - h / 2) * 160), round((y + h / 2) * 160))
            columns = slice(round((x - w / 2) * 160), round((x + w / 2) * 160))
            inside[rows, columns] = True
            assert changed[rows, columns].mean() > 0.1
        assert (changed & ~inside).sum() <= 0.03 * changed.sum()


def test_train_and_valid_have_no_digit_in_common():
    import sklearn.datasets

    train, valid = sample_module._materials(np.random.RandomState(0))
    keys = [
        {picture.tobytes() for each in material.digits for picture in each}
        for material in (train, valid)
    ]
    assert not keys[0] & keys[1]
    assert len(keys[0] | keys[1]) == len(np.unique(sklearn.datasets.load_digits().data, axis=0))


def test_every_size_and_class_occurs(many_boxes):
    assert set(many_boxes[:, 0].astype(int)) == set(range(10))
    assert many_boxes[:, 4].min() * 160 < 27
    assert many_boxes[:, 4].max() * 160 > 52


def test_without_scikit_learn_one_line_says_what_to_install(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    ended = command.run("convert", "sample", tmp_path)
    assert ended.err == "error: the sample needs scikit-learn: pip install scikit-learn\n"
    assert list(tmp_path.iterdir()) == []


# ---- the cfg that is trained on it


def test_the_cfg_has_what_the_sample_has():
    network = Network(Cfg.load(DIGITS[0]))
    assert (network.image.width, network.image.height) == (160, 160)
    assert network.count_parameters() < 500_000
    heads = [layer for layer in network.layers if layer.section.type == "yolo"]
    assert [160 // head.out_shape.width for head in heads] == [16, 8]
    assert {head.section.options["classes"].value for head in heads} == {"10"}
    kinds = {layer.section.type for layer in network.layers}
    assert kinds == {"convolutional", "shortcut", "maxpool", "route", "upsample", "yolo"}


def test_its_anchors_fit_the_sample(many_boxes):
    head = Network(Cfg.load(DIGITS[0])).layers[-1]
    anchors = np.array(head.section.options["anchors"].value.split(","), float).reshape(-1, 2)
    assert mean_iou(many_boxes[:, 3:] * 160, anchors) > 0.85


# ---- anchors


def mean_iou(sizes, anchors):
    """Of every size with its best anchor, one by one."""
    best = []
    for width, height in sizes:
        shared = [min(width, w) * min(height, h) for w, h in anchors]
        best.append(
            max(s / (width * height + w * h - s) for s, (w, h) in zip(shared, anchors, strict=True))
        )
    return np.mean(best)


def test_clear_groups_are_found():
    random = np.random.RandomState(0)
    centres = np.array([[10, 20], [40, 15], [50, 60], [100, 90]])
    sizes = np.concatenate([c + random.uniform(-1, 1, (30, 2)) for c in centres])
    fitted = fit_anchors(sizes, 4)
    np.testing.assert_allclose(fitted.sizes, centres, atol=0.6)
    assert fitted.mean_iou == pytest.approx(mean_iou(sizes, fitted.sizes))
    assert fitted.boxes == 120


def test_more_anchors_fit_better_and_too_many_are_an_error():
    sizes = np.random.RandomState(1).uniform(5, 90, (80, 2))
    fits = [fit_anchors(sizes, number).mean_iou for number in (1, 3, 6, 9)]
    assert fits == sorted(fits)
    assert fit_anchors(sizes, 80).mean_iou == pytest.approx(1)
    with pytest.raises(DataError, match="81 anchors"):
        fit_anchors(sizes, 81)


def test_the_command_prints_a_line_for_the_cfg(command, tmp_path):
    assert command.run("convert", "sample", tmp_path, "--train", "9", "--valid", "1").code == 0
    ended = command.run(
        "convert", "anchors", tmp_path / "digits.data", "--num", "3", "--size", "320x160"
    )
    assert ended.code == 0
    assert ended.out.startswith("anchors=")
    numbers = ended.out.splitlines()[0][8:].split(",")
    assert len(numbers) == 6
    assert all(20 <= int(width) <= 120 for width in numbers[::2])
