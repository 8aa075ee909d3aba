"""MNIST's and CIFAR-10's files, read as they are."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.datasets.arrays import of_files, of_pixels
from yolo.datasets.data import Split
from yolo.datasets.formats import cifar, idx
from yolo.datasets.formats.classes import check_labels
from yolo.datasets.forms import Form
from yolo.datasets.items import Items
from yolo.errors import DataError


class Idx(Form):
    """MNIST's images, whose labels are in a file beside them."""

    def names(self, classes: int | None) -> tuple[str, ...]:
        labels = () if classes else (idx.read_idx(idx.labels_beside(self.path), 1),)
        return idx.class_names(*labels, classes=classes)

    def items(self, split: Split, names: tuple[str, ...]) -> Items:
        images, labels = idx.read_pair(self.path)
        check_labels(labels, names, self.where)
        return of_pixels(images[..., None], labels, _numbered(str(self.path), labels), self.where)


class Cifar(Form):
    """CIFAR-10's binary version in a file, folder or .tar, or SPLIT/CLASS/ images in a .tar."""

    def names(self, classes: int | None) -> tuple[str, ...]:
        return cifar.NAMES if cifar.is_batch(self.path.name) else cifar.class_names(self.path)

    def items(self, split: Split, names: tuple[str, ...]) -> Items:
        if cifar.is_batch(self.path.name):
            content = cifar.content_of(self.path)
            return self._binary({str(self.path): content}, names)
        files = cifar.read_files(self.path, (split,))
        if not files:
            cifar.class_names(self.path)  # says so where there are none for the other split either
            raise DataError(f"{self.where}: {split} has no images in it")
        if batches := cifar.batches_of(files):
            return self._binary({f"{self.path}/{p}": c for p, c in batches.items()}, names)
        return self._images(files, names)

    def _binary(self, batches: dict[str, bytes], names: tuple[str, ...]) -> Items:
        pairs = [cifar.read_batch(content, name) for name, content in batches.items()]
        images = np.concatenate([images for images, _ in pairs])
        classes = np.concatenate([classes for _, classes in pairs])
        check_labels(classes, names, self.where)
        each = [_numbered(name, c) for name, (_, c) in zip(batches, pairs, strict=True)]
        return of_pixels(images, classes, list(chain(*each)), self.where)

    def _images(self, files: dict[str, Path | bytes], names: tuple[str, ...]) -> Items:
        folders = {path: cifar.class_folder(path) for path in files}
        strange = next((path for path, folder in folders.items() if folder not in names), None)
        if strange:
            raise DataError(f"{self.where}: {self.path}/{strange} is of none of the classes")
        numbers = [names.index(folder) for folder in folders.values()]
        contents = {f"{self.path}/{p}": cifar.content_of(file) for p, file in files.items()}
        return of_files(contents, numbers, self.where)


def _numbered(name: str, images: NDArray[np.uint8]) -> list[str]:
    return [f"{name}[{number}]" for number in range(len(images))]
