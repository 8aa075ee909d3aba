"""Images that are files of their own, named by a list or found below a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from yolo.datasets.data import Data, Setting, Split, find
from yolo.datasets.images import Pixels, read_image
from yolo.datasets.items import Items, Reader
from yolo.datasets.labels import Labels, check_labels, label_path, read_labels
from yolo.datasets.lists import IMAGES, read_lines, resolve
from yolo.datasets.sources.cache import image_cache
from yolo.errors import DataError

Item = tuple[str, str]  # the path of an image as it can be opened, and the text that named it


class Listed(Items):
    """Images that are files; `labels`: the text of each class in the path of a classifier's image.

    `difficult`: for every image another path, of an image that needn't exist, whose label file has
    the boxes of the objects that mAP ignores; () where there is no such list.
    """

    def __init__(
        self, items: Sequence[Item], labels: Sequence[str], difficult: Sequence[str] = ()
    ) -> None:
        self.names = tuple(path for path, _ in items)
        self.listed = tuple(text for _, text in items)
        self.labels, self._difficult = labels, difficult

    def reader(self, channels: int, cache: int = 0) -> Reader:
        if cache:
            return image_cache(self.names, channels, cache).read
        return partial(self._read, channels)

    def class_of(self, index: int) -> int:
        """The class whose label is in the image's path (fill_truth, data.c).

        Of several labels, the one that is a folder's name; raises DataError unless exactly one is.
        """
        text = self.listed[index]
        classes = [i for i, label in enumerate(self.labels) if label in text]
        if len(classes) != 1:
            parts = set(text.split("/")[:-1])
            folders = [i for i in classes if self.labels[i] in parts]
            classes = folders if len(folders) == 1 else classes
        if len(classes) != 1:
            which = ", ".join(self.labels[i] for i in classes[:5]) or "none"
            raise DataError(
                f"{self.names[index]}: the path must contain exactly one label, but has {which}"
            )
        return classes[0]

    def boxes(self, index: int, classes: int, *, clip: bool = True) -> Labels:
        return read_labels(self.names[index], classes, clip=clip)

    def check_boxes(self) -> None:
        check_labels(self.names)
        if self._difficult:
            check_labels(self._difficult)

    def difficult(self, index: int, classes: int) -> NDArray[np.float32]:
        if not self._difficult:
            return super().difficult(index, classes)
        return read_labels(self._difficult[index], classes, clip=False).boxes

    def _read(self, channels: int, index: int) -> Pixels:
        return read_image(self.names[index], channels)


def read_lists(data: Data, split: Split, paths: Sequence[str]) -> Listed:
    """The images of the lists and folders with these paths.

    Raises DataError for lists that can't be read, and where there is no image.
    """
    where = data.sources[split][0].where
    items = [item for path in paths for item in _items(path, data.folders)]
    if not items:
        raise DataError(f"{where}: {split} has no images in it")
    if not any(os.path.exists(path) for path, _ in items):
        raise DataError(
            f"{where}: none of the {len(items)} images of {split} exists, relative to the working "
            f"directory or to the list; the first is {items[0][1]}"
        )
    if data.difficult is None or split != "valid":
        return Listed(items, data.labels)
    return Listed(items, data.labels, _read_difficult(data.difficult, data.folders, len(items)))


def _items(path: str, folders: Sequence[str]) -> list[Item]:
    if os.path.isdir(path):
        return _below(path)
    folders = (os.path.dirname(path) or ".", *folders)
    lines = (line for _, line in read_lines(path, "image list"))
    return [(resolve(line, folders) or line, line) for line in lines]


def _read_difficult(value: Setting, folders: Sequence[str], count: int) -> list[str]:
    """The images of `difficult=`; raises DataError unless there are as many as in valid."""
    path = find(value, folders)
    folders = (os.path.dirname(path) or ".", *folders)
    lines = [line for _, line in read_lines(path, "list of difficult objects")]
    if len(lines) != count:
        raise DataError(
            f"{value.where}: {value.text} has {len(lines)} images, but valid has {count}"
        )
    return [resolve(line, folders, _has_labels) or line for line in lines]


def _has_labels(image: str) -> bool:
    return os.path.exists(label_path(image))


def _below(folder: str) -> list[Item]:
    """All images below a folder, sorted."""
    items = []
    for root, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() in IMAGES:
                path = os.path.join(root, name)
                items.append((path, os.path.relpath(path, folder)))
    return items
