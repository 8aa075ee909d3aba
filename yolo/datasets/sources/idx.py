"""MNIST's idx files (LeCun, Cortes, Burges), and other data sets in that format."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import numpy as np

from yolo.datasets.data import Split
from yolo.datasets.items import Items
from yolo.datasets.sources.arrays import of_pixels
from yolo.datasets.sources.packed import Array, Packed, check_named, numbered
from yolo.errors import DataError
from yolo.files import read_bytes

NAMED = re.compile(r"[-.]idx\d-ubyte(\.gz)?$")
IMAGES = re.compile(r"images[-.]idx3-ubyte(\.gz)?$")
GZIP = b"\x1f\x8b"
UNSIGNED_BYTES = 8


class Idx(Packed):
    """Images in an idx file, whose labels are in a file beside it."""

    @classmethod
    def suits(cls, path: Path) -> bool:
        return NAMED.search(path.name) is not None and not path.is_dir()

    def names(self, classes: int | None) -> tuple[str, ...]:
        labels = () if classes else (read_idx(labels_beside(self.path), 1),)
        return class_names(*labels, classes=classes)

    def items(self, split: Split, names: tuple[str, ...]) -> Items:
        images, labels = read_pair(self.path)
        check_named(labels, names, self.where)
        return of_pixels(images[..., None], labels, numbered(str(self.path), labels), self.where)


def class_names(*labels: Array, classes: int | None = None) -> tuple[str, ...]:
    """digit0, digit1 …: `classes` of them, by default as many as the labels need, at least ten."""
    count = classes or max(10, *(1 + int(each.max(initial=0)) for each in labels))
    return tuple(f"digit{number}" for number in range(count))


def read_pair(images: Path) -> tuple[Array, Array]:
    """Images (N, H, W) and their labels (N,), from the file beside theirs; raises DataError."""
    labels = labels_beside(images)
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise DataError(f"{labels}: {len(classes)} labels for {len(pixels)} images")
    if not pixels.size:
        raise DataError(f"{images}: holds no images")
    return pixels, classes


def labels_beside(images: Path) -> Path:
    """The labels of NAME-images-idx3-ubyte; raises DataError where they aren't beside it."""
    named = IMAGES.search(images.name)
    if not named:
        raise DataError(f"{images}: expected NAME-images-idx3-ubyte, or that with .gz")
    return find_idx(images.parent, f"{images.name[: named.start()]}labels", 1)


def find_idx(folder: Path, stem: str, axes: int) -> Path:
    """STEM-idxN-ubyte or STEM.idxN-ubyte, plain or with .gz; raises DataError for none."""
    names = [f"{stem}{dot}idx{axes}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{folder / names[0]}: there is no such file, nor one with .gz")
    return path


def read_idx(path: Path, axes: int) -> Array:
    """An idx file of unsigned bytes with so many axes; raises DataError."""
    content = read_bytes(path, "idx file", DataError)
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: not gzip, or cut off: {error}") from error
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes([0, 0, UNSIGNED_BYTES, axes]):
        raise DataError(f"{path}: not an idx file of bytes with {axes} axes")
    shape = np.frombuffer(content, ">u4", axes, 4).tolist()
    wanted = start + int(np.prod(shape, dtype=object))
    if len(content) != wanted:
        raise DataError(f"{path}: {len(content)} bytes, but its header says {wanted}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
