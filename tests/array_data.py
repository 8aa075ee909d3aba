"""MNIST's and CIFAR-10's files, small, and what convert.py makes of them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import cv2
import numpy as np
from foreign_data import write_idx

from yolo.datasets import sources
from yolo.datasets.data import Data
from yolo.datasets.formats.layout import Place, write
from yolo.datasets.formats.pictures import Dataset

TRAIN, VALID = 13, 5
IDX = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")
IMAGES, LABELS = f"{IDX[0]}.gz", "train-labels-idx1-ubyte.gz"
BIN = "cifar-10-batches-bin"


def write_digits(folder: Path, ends: tuple[str, str] = (".gz", ".gz"), dot: str = "-") -> Path:
    """Noise of 28×28; the labels of train go up to 9."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("t10k", VALID)):
        images = random.integers(0, 256, (count, 28, 28))
        write_idx(folder / f"{part}-images{dot}idx3-ubyte{ends[0]}", images)
        write_idx(folder / f"{part}-labels{dot}idx1-ubyte{ends[1]}", np.arange(count)[::-1] % 10)
    return folder


def records(count: int, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    content = random.integers(0, 256, (count, 3073), np.uint8)
    content[:, 0] = random.integers(0, 10, count)
    return content.tobytes()


def write_batches(folder: Path) -> Path:
    (folder / BIN).mkdir(parents=True)
    for name, count in (("data_batch_2", 4), ("data_batch_1", 9), ("test_batch", VALID)):
        (folder / BIN / f"{name}.bin").write_bytes(records(count, count))
    return folder


def write_folders(folder: Path, sizes: tuple[int, ...] = (32,)) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("test", VALID)):
        for number in range(count):
            side = sizes[number % len(sizes)]
            image = random.integers(0, 256, (side, 32, 3), np.uint8)
            path = folder / "x" / split / ("cat", "ant")[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.GaussianBlur(image, (5, 5), 0))
    return folder


def pack(folder: Path, name: str) -> Path:
    """A .tar beside the folder, with its files in no order."""
    path = folder.parent / name
    with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.add(file, file.relative_to(folder), recursive=False)
    return path


def load(folder: Path, train: str, valid: str, more: str = "") -> Data:
    folder.mkdir(exist_ok=True)
    (folder / "x.data").write_text(f"\ntrain = {train}\nvalid = {valid}\n{more}")
    return sources.load(folder / "x.data")


def converted(dataset: Dataset, folder: Path) -> Data:
    return sources.load(write(dataset, Place(folder, folder)).data)
