"""The images that a .data file names: lists and folders of them, and files of many."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from weakref import WeakKeyDictionary

from yolo.datasets.data import Data, Split, find, integer
from yolo.datasets.items import Items
from yolo.datasets.lists import resolve
from yolo.datasets.sources.cifar import Cifar
from yolo.datasets.sources.idx import Idx
from yolo.datasets.sources.listed import read_lists
from yolo.datasets.sources.packed import Packed
from yolo.errors import DataError

PACKED: tuple[type[Packed], ...] = (Idx, Cifar)
_OPENED: WeakKeyDictionary[Data, dict[Split, Items]] = WeakKeyDictionary()


def load(path: str | os.PathLike[str]) -> Data:
    """Read a .data or .yaml file; class names that it lacks come from its files of many images.

    Raises DataError.
    """
    data = Data.read(path)
    if data.names:
        return data
    names = _own_names(data)
    return replace(data, names=names, labels=names)


def items(data: Data, split: Split) -> Items:
    """The images of a split; lists and files of many images are read once.

    Raises DataError where there is no list, where it is empty, or where no image exists.
    """
    opened = _OPENED.setdefault(data, {})
    if split not in opened:
        opened[split] = _open(data, split)
    return opened[split]


def images(data: Data, split: Split) -> tuple[str, ...]:
    """The names of a split's images; of files, paths that can be opened."""
    return items(data, split).names


def _open(data: Data, split: Split) -> Items:
    values = data.sources.get(split)
    if not values:
        raise DataError(f"{data.path}: names no {split} images ({split}=)")
    paths = [find(value, data.folders) for value in values]
    packed = [_packed(path, v.where) for path, v in zip(paths, values, strict=True)]
    first = packed[0]
    if not any(packed):
        return read_lists(data, split, paths)
    if not first or len(packed) > 1:
        raise DataError(f"{values[0].where}: a file of many images can't be one of several")
    return first.items(split, data.names)


def _packed(name: str, where: str) -> Packed | None:
    """The file of many images with this path; None for lists and folders of images."""
    path = Path(name)
    return next((kind(path, where) for kind in PACKED if kind.suits(path)), None)


def _own_names(data: Data) -> tuple[str, ...]:
    """The class names from files of many images; raises DataError for lists, which have none."""
    packed = _all_packed(data)
    count = integer(data.count, "classes") if data.count and packed else None
    names = max((each.names(count) for each in packed), key=len, default=())
    if not names:
        raise DataError(f"{data.path}: neither names= nor labels= gives the class names")
    if data.count and len(names) != count:
        text = next(iter(data.sources.values()))[0].text
        raise DataError(
            f"{data.count.where}: classes={data.count.text}, but {text} has {len(names)} classes"
        )
    return names


def _all_packed(data: Data) -> list[Packed]:
    """The files of many images of all splits, each once; [] where any is a list or a folder."""
    values = [value for named in data.sources.values() for value in named]
    paths = {resolve(v.text, data.folders) or v.text: v.where for v in values}
    packed = [_packed(path, where) for path, where in paths.items()]
    return [each for each in packed if each] if all(packed) else []
