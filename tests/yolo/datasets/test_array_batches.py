"""Batches from arrays in memory: those of the files, with workers and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from array_data import (
    IDX,
    TRAIN,
    VALID,
    converted,
    load,
    pack,
    write_digits,
    write_folders,
)
from foreign_data import write_idx

from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.datasets.batch import Batch
from yolo.datasets.data import Data, Split
from yolo.datasets.formats.idx import mnist
from yolo.datasets.sources.arrays import Arrays
from yolo.errors import DataError
from yolo.evaluation.loader import evaluation_loader
from yolo.training.loader import training_loader
from yolo.training.settings import Settings
from yolo.training.trainer import steps_per_epoch


def cfg(net: str, size: tuple[int, int] = (28, 28), channels: int = 1, head: str = "") -> Cfg:
    lines = f"[net]\nwidth={size[0]}\nheight={size[1]}\nchannels={channels}\n{net}\n"
    return Cfg(f"{lines}{head or '[softmax]'}\n".encode(), "x.cfg")


def train(data: Data, how: Cfg, workers: int = 0, epoch: int = 0) -> list[Batch]:
    options = {"batch": 4, "subdivisions": 2, "seed": 5, "epoch": epoch, "workers": workers}
    return list(training_loader(data, how, **options))  # type: ignore[arg-type]


def same(first: list[Batch], second: list[Batch]) -> bool:
    """Bit for bit, but for the names"""
    return len(first) == len(second) and all(
        torch.equal(getattr(a, name), getattr(b, name)) and a.sizes == b.sizes
        for a, b in zip(first, second, strict=True)
        for name in ("images", "boxes", "labels")
    )


SPLITS: tuple[Split, ...] = ("train", "valid")
STILL = "flip=0\nmin_crop=28\nmax_crop=28\nlabel_smooth_eps=.1"
NETS = {
    "nothing varies": STILL,
    "flip": "min_crop=28\nmax_crop=28",
    "crop and angle": "min_crop=24\nmax_crop=40\nangle=10\naspect=1.2",
    "colours": "hue=.1\nsaturation=1.5\nexposure=1.5",
    "mixed": "mosaic=1\ncutmix=1\nblur=1",
}


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@pytest.mark.parametrize("size", [(28, 28), (32, 32), (20, 28), (28, 20)])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_those_of_the_files(
    tmp_path: Path, net: str, size: tuple[int, int], channels: int
) -> None:
    folder = write_digits(tmp_path / "in")
    direct = load(folder, *(f"{name}.gz" for name in IDX))
    files = converted(mnist(folder), tmp_path / "out")
    how = cfg(net, size, channels)
    assert same(train(direct, how), train(files, how))
    judged = [list(evaluation_loader(data, how, batch=3, workers=0)) for data in (direct, files)]
    assert same(*judged)
    assert judged[0][0].images.dtype == torch.float32


@pytest.mark.parametrize("size", [(20, 32), (32, 20)])
def test_images_that_are_not_square(tmp_path: Path, size: tuple[int, int]) -> None:
    """An evaluation leaves them whole where their shorter side is the network's width"""
    folder = write_digits(tmp_path / "in")
    random = np.random.default_rng(1)
    for part, count in (("train", TRAIN), ("t10k", VALID)):
        images = random.integers(0, 256, (count, size[1], size[0]))
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
    direct = load(folder, *(f"{name}.gz" for name in IDX))
    files = converted(mnist(folder), tmp_path / "out")
    how = cfg(STILL, size)
    assert same(train(direct, how), train(files, how))
    first, second = (list(evaluation_loader(data, how, workers=0)) for data in (direct, files))
    assert same(first, second)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_workers_change_nothing(tmp_path: Path, net: str) -> None:
    data = load(write_digits(tmp_path), *(f"{name}.gz" for name in IDX))
    first, second = (train(data, cfg(net), workers) for workers in (0, 2))
    assert same(first, second)
    assert [batch.paths for batch in first] == [batch.paths for batch in second]


def test_what_is_cut_out_of_memory_needs_no_workers(tmp_path: Path) -> None:
    direct = load(write_digits(tmp_path / "in"), *(f"{name}.gz" for name in IDX))
    files = converted(mnist(tmp_path / "in"), tmp_path / "out")
    how = {"batch": 4, "subdivisions": 2, "seed": 5, "epoch": 0, "workers": 2}

    def workers(data: Data, net: str, size: tuple[int, int]) -> tuple[int, int]:
        training = training_loader(data, cfg(net, size), **how)  # type: ignore[arg-type]
        return training.workers, evaluation_loader(data, cfg(net, size), workers=2).workers

    assert workers(direct, STILL, (28, 28)) == (0, 0)
    assert workers(direct, NETS["flip"], (28, 28)) == (2, 0)
    assert workers(direct, STILL, (32, 32)) == workers(files, STILL, (28, 28)) == (2, 2)


def test_epochs_differ_and_every_image_comes(tmp_path: Path) -> None:
    data = load(write_digits(tmp_path), *(f"{name}.gz" for name in IDX))
    orders = [
        [path for batch in train(data, cfg(STILL), epoch=epoch) for path in batch.paths]
        for epoch in (0, 1)
    ]
    assert orders[0] != orders[1]
    assert set(orders[0][:TRAIN]) == set(orders[1][:TRAIN]) == set(sources.images(data, "train"))
    assert steps_per_epoch(data, Settings.of(cfg("batch=4\nmax_batches=10"))) == 4


def test_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(write_digits(tmp_path), *(f"{name}.gz" for name in IDX))
    items = sources.items(data, "train")
    assert isinstance(items, Arrays)
    decode, asked = items.decoded, []
    monkeypatch.setattr(items, "decoded", lambda c: asked.append(c) or decode(c))
    for epoch in range(3):
        train(data, cfg(NETS["flip"]), epoch=epoch)
    list(evaluation_loader(data, cfg(""), "train", workers=2))
    assert asked == [1]


def test_the_cache_is_for_files(tmp_path: Path) -> None:
    data = load(write_digits(tmp_path), *(f"{name}.gz" for name in IDX))
    how = {"batch": 4, "subdivisions": 2, "seed": 5, "epoch": 0, "workers": 0}
    cached = training_loader(data, cfg(""), cache=1, **how)  # type: ignore[arg-type]
    assert same(list(cached), train(data, cfg("")))


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_of_a_tar_are_skipped(tmp_path: Path, workers: int) -> None:
    folder = write_folders(tmp_path / "in")
    (folder / "x/train/ant/1.jpg").write_bytes(b"none")
    (folder / "x/test/ant/3.jpg").write_bytes(b"")
    path = pack(folder, "x.tar")
    data = load(tmp_path, str(path), str(path))
    how = cfg(STILL.replace("28", "32"), (32, 32), 3)
    options = {"batch": TRAIN, "subdivisions": 1, "seed": 5, "epoch": 0, "workers": workers}
    training = training_loader(data, how, **options)  # type: ignore[arg-type]
    evaluation = evaluation_loader(data, how, workers=workers)
    assert sum(len(batch) for batch in training) == TRAIN
    assert sum(len(batch) for batch in evaluation) == VALID - 1
    broken, empty = f"{path}/x/train/ant/1.jpg", f"{path}/x/test/ant/3.jpg"
    assert training.skipped == [(broken, f"{broken}: not an image that OpenCV can decode")]
    assert evaluation.skipped == [(empty, f"{empty}: the image file is empty")]


def test_detectors_want_boxes(tmp_path: Path) -> None:
    data = load(write_digits(tmp_path), *(f"{name}.gz" for name in IDX))
    how = cfg("", head="[yolo]\nclasses=10")
    with pytest.raises(DataError, match=r"x.data:2: these images have classes but no boxes"):
        train(data, how)
    with pytest.raises(DataError, match=r"x.data:3: these images have classes but no boxes"):
        evaluation_loader(data, how)


def test_mnist_itself(shared: Path, tmp_path: Path) -> None:
    train, valid = (f"{shared}/data/mnist/{name}.gz" for name in IDX)
    data = load(tmp_path, train, valid, "classes=10\n")
    assert [len(sources.images(data, split)) for split in SPLITS] == [60_000, 10_000]
    (batch, *_) = evaluation_loader(data, cfg(""), batch=10_000, workers=0)
    # what is published of it: the first labels, and the mean grey of the test images
    assert batch.labels.argmax(1)[:5].tolist() == [7, 2, 1, 0, 4]
    assert batch.images.mean() == pytest.approx(0.1325, abs=1e-4)
