"""tools/convert.py mnist and cifar10: classes in the paths, as Darknet's classifiers want them."""

from __future__ import annotations

import re
import tarfile

import cv2
import numpy as np
import pytest
from foreign_data import write_idx, write_image

from yolo.datasets import sources
from yolo.datasets.formats.classes import check_names, class_label, class_path
from yolo.datasets.sources.cifar import NAMES
from yolo.datasets.sources.idx import read_idx
from yolo.errors import DataError


@pytest.fixture
def digits(tmp_path):
    """Seven images for train, gzipped, three for valid; image i is filled with i."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for part, count, end in (("train", 7, ".gz"), ("t10k", 3, "")):
        images = np.arange(count)[:, None, None] * np.ones((4, 5))
        write_idx(folder / f"{part}-images-idx3-ubyte{end}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{end}", np.arange(count)[::-1])
    return folder


def classes(data, split):
    """The class of every image, as a loader tells it."""
    items = sources.items(data, split)
    return [items.class_of(index) for index in range(len(items))]


def test_mnist(command, digits, tmp_path):
    assert command.run("convert", "mnist", digits, tmp_path / "digit3_" / "o").code == 0
    data = sources.load(tmp_path / "digit3_" / "o" / "o.data")
    assert data.names == tuple(f"digit{number}" for number in range(10))
    assert classes(data, "train") == [6, 5, 4, 3, 2, 1, 0]
    assert classes(data, "valid") == [2, 1, 0]
    image = cv2.imread(sources.images(data, "train")[3], cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(image, np.full((4, 5), 3))


def test_mnist_with_names(command, digits, tmp_path):
    (tmp_path / "n").write_text("".join(f"{'wo' * (i % 2)}man{i // 2}\n" for i in range(7)))
    ended = command.run("convert", "mnist", digits, tmp_path / "o", "--names", tmp_path / "n")
    assert ended.code == 0
    data = sources.load(tmp_path / "o" / "o.data")
    assert data.names[:2] == ("man0", "woman0")
    assert classes(data, "train") == [6, 5, 4, 3, 2, 1, 0]
    (tmp_path / "n").write_text("a\nb\n")
    ended = command.run("convert", "mnist", digits, tmp_path / "p", "--names", tmp_path / "n")
    assert "labels up to 6, but 2 names" in ended.err


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"])
def test_bad_idx_files_are_one_line(command, digits, tmp_path, name):
    path = digits / name
    content = path.read_bytes()
    bad = [content[:-3], content + b"xx", b"", b"\0\0\x0d\1" + content[4:], b"\x1f\x8b junk"]
    for each in bad:
        path.write_bytes(each)
        if name.endswith(".gz") and each == content + b"xx":
            continue  # Python's gzip takes zeros and nothing else behind the end
        ended = command.run("convert", "mnist", digits, tmp_path / "o")
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert ended.err.startswith(f"error: {path}: ")
    path.unlink()
    assert "there is no such file" in command.run("convert", "mnist", digits, tmp_path / "o").err


def test_mnist_itself(shared):
    folder = shared / "data" / "mnist"
    images = read_idx(folder / "t10k-images-idx3-ubyte.gz", 3)
    labels = read_idx(folder / "t10k-labels-idx1-ubyte.gz", 1)
    assert images.shape == (10_000, 28, 28)
    # what is published of it: the first labels, and the mean grey of the test images
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert images.mean() / 255 == pytest.approx(0.1325, abs=1e-4)


def test_no_path_has_two_labels():
    names = ["man", "woman", "man_o_war", "super man"]
    check_names(names)
    for name in names:
        path = class_path("train", 5, name, ".PNG")
        assert [each for each in names if class_label(each) in path] == [name]
    for wrong in (["man", "wo_man"], ["a", "a"], ["a/b"]):
        with pytest.raises(DataError):
            check_names(wrong)


def cifar_batch(classes):
    """Records whose planes are filled with 10, 20, 30 plus the class."""
    return b"".join(
        bytes([c]) + bytes([10 + c]) * 1024 + bytes([20 + c]) * 1024 + bytes([30 + c]) * 1024
        for c in classes
    )


def test_cifar_binary(command, tmp_path):
    folder = tmp_path / "in" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "data_batch_1.bin").write_bytes(cifar_batch([3, 0]))
    (folder / "data_batch_2.bin").write_bytes(cifar_batch([9]))
    (folder / "test_batch.bin").write_bytes(cifar_batch([5, 5]))
    assert command.run("convert", "cifar10", tmp_path / "in", tmp_path / "o").code == 0
    data = sources.load(tmp_path / "o" / "o.data")
    assert data.names == NAMES
    assert classes(data, "train") == [3, 0, 9]
    assert classes(data, "valid") == [5, 5]
    red, green, blue = cv2.imread(sources.images(data, "train")[0])[0, 0, ::-1]
    assert (red, green, blue) == (13, 23, 33)
    for bad, reason in (
        (cifar_batch([1])[:-1], "not a multiple of 3073"),
        (cifar_batch([11]), "11"),
    ):
        (folder / "test_batch.bin").write_bytes(bad)
        assert reason in command.run("convert", "cifar10", tmp_path / "in", tmp_path / "p").err


@pytest.mark.parametrize("packed", [False, True])
def test_folders_of_images(command, tmp_path, packed):
    source = tmp_path / "in"
    for path in ("train/cat/1.png", "train/ant/1.png", "test/cat/2.png"):
        write_image(source / "x" / path)
    (source / "x/train/cat/0.png").write_bytes(b"none")
    if packed:
        with tarfile.open(tmp_path / "in.tar.gz", "w:gz") as archive:
            archive.add(source, ".")
        source = tmp_path / "in.tar.gz"
    ended = command.run("convert", "cifar10", source, tmp_path / "o")
    assert ended.code == 0
    assert re.search("skipped .*train/cat/0.png: not an image", ended.out)
    data = sources.load(tmp_path / "o" / "o.data")
    assert data.names == ("ant", "cat")
    assert classes(data, "train") == [0, 1]
    assert classes(data, "valid") == [1]


def test_neither_batches_nor_folders(command, tmp_path):
    ended = command.run("convert", "cifar10", tmp_path, tmp_path / "o")
    assert "neither data_batch_1.bin nor train/CLASS/" in ended.err
    (tmp_path / "x.tar").write_bytes(b"no archive")
    ended = command.run("convert", "cifar10", tmp_path / "x.tar", tmp_path / "o")
    assert ended.err.startswith(f"error: {tmp_path / 'x.tar'}: can't read")
