"""MNIST's and CIFAR-10's files read directly; the oracle: what convert.py makes of them."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from array_data import (
    BIN,
    IDX,
    IMAGES,
    LABELS,
    TRAIN,
    VALID,
    converted,
    load,
    pack,
    records,
    write_batches,
    write_digits,
    write_folders,
)
from foreign_data import write_idx

from yolo.datasets import sources
from yolo.datasets.data import Data, Split
from yolo.datasets.formats.cifar import NAMES, cifar10
from yolo.datasets.formats.idx import mnist
from yolo.errors import DataError

SPLITS: tuple[Split, ...] = ("train", "valid")


def same_items(direct: Data, files: Data, channels: int) -> None:
    assert direct.names == files.names
    for split in SPLITS:
        arrays, images = sources.items(direct, split), sources.items(files, split)
        assert len(arrays) == len(images) == len(sources.images(direct, split))
        assert len(set(arrays.names)) == len(arrays)
        read, expected = arrays.reader(channels), images.reader(channels)
        for index in range(len(arrays)):
            assert arrays.class_of(index) == images.class_of(index)
            assert read(index).dtype == np.uint8
            np.testing.assert_array_equal(read(index), expected(index))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ends", "dot"),
    [((".gz", ".gz"), "-"), (("", ""), "-"), (("", ".gz"), "."), ((".gz", ""), ".")],
)
def test_idx(tmp_path: Path, ends: tuple[str, str], dot: str, channels: int) -> None:
    folder = write_digits(tmp_path / "in", ends, dot)
    train, valid = (f"{name.replace('-idx', f'{dot}idx')}{ends[0]}" for name in IDX)
    direct = load(folder, train, valid, "classes = 10\n")
    same_items(direct, converted(mnist(folder), tmp_path / "out"), channels)
    assert sources.images(direct, "train")[7] == f"{folder}/{train}[7]"


def as_folder(folder: Path) -> tuple[str, str]:
    return str(folder / BIN), str(folder / BIN)


def as_parent(folder: Path) -> tuple[str, str]:
    return str(folder), str(folder)


def as_tar(folder: Path) -> tuple[str, str]:
    path = str(pack(folder, "cifar-10-binary.tar.gz"))
    return path, path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", [as_folder, as_parent, as_tar])
def test_cifar_binary(
    tmp_path: Path, form: Callable[[Path], tuple[str, str]], channels: int
) -> None:
    folder = write_batches(tmp_path / "in")
    files = converted(cifar10(folder), tmp_path / "out")
    direct = load(tmp_path, *form(folder))
    assert direct.names == NAMES
    same_items(direct, files, channels)
    assert sources.images(direct, "train")[9].endswith(f"{BIN}/data_batch_2.bin[0]")


def test_a_single_batch_of_cifar(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "in") / BIN
    data = load(folder, "data_batch_1.bin", "data_batch_2.bin", "classes=10\n")
    assert data.names == NAMES
    assert [len(sources.items(data, split)) for split in SPLITS] == [9, 4]
    content = np.frombuffer(records(4, 4), np.uint8).reshape(4, -1)
    planes = content[2, 1:].reshape(3, 32, 32)
    items = sources.items(data, "valid")
    np.testing.assert_array_equal(items.reader(3)(2), planes.transpose(1, 2, 0))
    assert items.class_of(2) == content[2, 0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sizes", [(32,), (32, 40)])
@pytest.mark.parametrize("name", ["x.tar", "x.tgz"])
def test_folders_in_a_tar(tmp_path: Path, name: str, sizes: tuple[int, ...], channels: int) -> None:
    path = pack(write_folders(tmp_path / "in", sizes), name)
    direct = load(tmp_path, str(path), str(path))
    assert direct.names == ("ant", "cat")
    same_items(direct, converted(cifar10(path), tmp_path / "out"), channels)


def test_names_say_which_class_a_folder_is(tmp_path: Path) -> None:
    path = pack(write_folders(tmp_path / "in"), "x.tar")
    (tmp_path / "x.names").write_text("dog\ncat\nant\n")
    data = load(tmp_path, str(path), str(path), "names = x.names\n")
    items = sources.items(data, "train")
    assert [items.class_of(index) for index in (0, len(items) - 1)] == [2, 1]
    (tmp_path / "x.names").write_text("dog\ncat\n")
    data = load(tmp_path, str(path), str(path), "names = x.names\n")
    with pytest.raises(DataError, match=r"x.data:2: .*/x/train/ant/1.jpg .*none of the classes"):
        sources.items(data, "train")


@pytest.mark.parametrize(
    ("more", "count"), [("", 10), ("classes=10\n", 10), ("classes=14\n", 14), ("classes=3\n", 3)]
)
def test_names_of_digits(tmp_path: Path, more: str, count: int) -> None:
    data = load(write_digits(tmp_path), *(f"{name}.gz" for name in IDX), more)
    assert data.names == data.labels == tuple(f"digit{number}" for number in range(count))


def test_as_many_digits_as_the_labels_need(tmp_path: Path) -> None:
    folder = write_digits(tmp_path)
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", np.arange(VALID) + 20)
    assert load(folder, *(f"{name}.gz" for name in IDX)).classes == 20 + VALID


def test_yaml_names_such_files_too(tmp_path: Path) -> None:
    write_digits(tmp_path)
    names = "".join(f", d{number}" for number in range(10))[2:]
    path = tmp_path / "x.yaml"
    path.write_text(f"train: {IDX[0]}.gz\nval: [{IDX[1]}.gz]\nnames: [{names}]\n")
    assert len(sources.items(sources.load(path), "valid")) == VALID
    path.write_text(f"val: a\ntrain: [{IDX[0]}.gz, {IDX[1]}.gz]\nnames: [{names}]\n")
    with pytest.raises(DataError, match=r"x.yaml:2: a file of many images can't be one"):
        sources.items(sources.load(path), "train")


def short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unpacked(path: Path, cut: int) -> None:
    path.write_bytes(gzip.decompress(path.read_bytes())[:cut])


BAD_IDX: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no labels": (LABELS, Path.unlink, f"{LABELS[:-3]}: there is no such file, nor one with .gz$"),
    "no images": (IMAGES, Path.unlink, f"x.data:2: there is no {IMAGES}$"),
    "not gzip": (IMAGES, lambda p: p.write_bytes(b"\x1f\x8b junk"), f"{IMAGES}: not gzip, or cut"),
    "cut off": (IMAGES, short, f"{IMAGES}: not gzip, or cut off"),
    "plain, cut off": (LABELS, lambda p: unpacked(p, -1), f"{LABELS}: 20 bytes, but .* says 21$"),
    "header only": (IMAGES, lambda p: unpacked(p, 9), f"{IMAGES}: not an idx file of bytes with 3"),
    "fewer labels": (LABELS, lambda p: write_idx(p, np.zeros(7)), f"{LABELS}: 7 labels for 13 im"),
    "no image": (
        IMAGES,
        lambda p: write_idx(p, np.zeros((13, 0, 28))),
        f"{IMAGES}: holds no images",
    ),
    "other axes": (IMAGES, lambda p: write_idx(p, np.zeros((13, 28))), "idx file of bytes with 3"),
    "too large": (
        LABELS,
        lambda p: write_idx(p, np.full(13, 10)),
        "x.data:2: labels up to 10, but",
    ),
}


@pytest.mark.parametrize(("name", "spoil", "message"), BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx(tmp_path: Path, name: str, spoil: Callable[[Path], object], message: str) -> None:
    spoil(write_digits(tmp_path) / name)
    data = load(tmp_path, *(f"{name}.gz" for name in IDX), "classes=10\n")
    with pytest.raises(DataError, match=message) as caught:
        sources.items(data, "train")
    assert "\n" not in str(caught.value)


def test_idx_files_that_are_not_images(tmp_path: Path) -> None:
    folder = write_digits(tmp_path)
    data = load(folder, LABELS, f"{IDX[1]}.gz", "classes=10\n")
    with pytest.raises(DataError, match=f"{LABELS}: expected NAME-images-idx3-ubyte"):
        sources.items(data, "train")


def add_empty(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("x/1.jpg"), io.BytesIO())


BAD_CIFAR: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "cut off": (
        f"{BIN}/data_batch_2.bin",
        short,
        "data_batch_2.bin: 12289 bytes, not a multiple",
    ),
    "empty": (
        f"{BIN}/data_batch_2.bin",
        lambda p: p.write_bytes(b""),
        "0 bytes, not a multiple",
    ),
    "class": (
        f"{BIN}/data_batch_1.bin",
        lambda p: p.write_bytes(b"\x0b" * 3073),
        "class 11, but there are 10",
    ),
    "no archive": ("x.tar", lambda p: p.write_bytes(b"no archive"), "x.tar: can't read: "),
    "cut off archive": ("x.tar.gz", half, "x.tar.gz: can't read: "),
    "nothing in it": ("x.tar", add_empty, "x.tar: neither data_batch_1.bin nor train/CLASS/"),
    "no file": ("x.tar.gz", Path.unlink, "x.data:2: there is no .*x.tar.gz"),
}


@pytest.mark.parametrize(("name", "spoil", "message"), BAD_CIFAR.values(), ids=BAD_CIFAR)
def test_bad_cifar(
    tmp_path: Path, name: str, spoil: Callable[[Path], object], message: str
) -> None:
    folder = write_batches(tmp_path / "in")
    path = folder if name.startswith(BIN) else pack(folder, name)
    spoil(folder / name if path == folder else path)
    (tmp_path / "x.names").write_text("".join(f"{name}\n" for name in NAMES))
    data = load(tmp_path, str(path), str(path), "names=x.names\n")
    with pytest.raises(DataError, match=message) as caught:
        sources.items(data, "train")
    assert "\n" not in str(caught.value)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "in")
    (folder / BIN / "test_batch.bin").unlink()
    data = load(tmp_path, str(folder), str(folder))
    assert len(sources.items(data, "train")) == TRAIN
    with pytest.raises(DataError, match=r"x.data:3: valid has no images in it"):
        sources.items(data, "valid")


def test_classes_that_are_others(tmp_path: Path) -> None:
    folder = write_batches(tmp_path / "in")
    with pytest.raises(DataError, match=r"x.data:4: classes=3, but .* has 10 classes"):
        load(tmp_path, str(folder), str(folder), "classes=3\n")
    (tmp_path / "x.names").write_text("a\nb\n")
    data = load(tmp_path, str(folder), str(folder), "names=x.names\n")
    with pytest.raises(DataError, match=r"x.data:2: labels up to \d, but 2 names"):
        sources.items(data, "train")


def test_lists_need_names(tmp_path: Path) -> None:
    folder = write_digits(tmp_path)
    (folder / "valid.txt").write_text("1.png\n")
    with pytest.raises(DataError, match=r"x.data: neither names= nor labels="):
        load(folder, f"{IDX[0]}.gz", "valid.txt")


def test_cifar_itself(shared: Path, tmp_path: Path) -> None:
    """The subset of JPEG copies"""
    path = shared / "data/cifar10-jpeg.tar"
    data = load(tmp_path, str(path), str(path))
    assert data.names == NAMES
    items = sources.items(data, "valid")
    assert len(items) == 2000
    assert np.bincount([items.class_of(index) for index in range(2000)]).tolist() == [200] * 10
    number = items.names.index(f"{path}/cifar10/test/frog/0003.jpg")
    with tarfile.open(path) as archive:
        file = archive.extractfile("cifar10/test/frog/0003.jpg")
        assert file
        expected = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(items.reader(3)(number), expected[..., ::-1])
