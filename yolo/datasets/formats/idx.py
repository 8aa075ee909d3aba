"""MNIST's idx files as a data set of images (LeCun, Cortes, Burges)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from yolo.datasets.formats.classes import check_names, class_path
from yolo.datasets.formats.common import encoded_png, read_names
from yolo.datasets.formats.options import DatasetFormat
from yolo.datasets.formats.pictures import Dataset, Picture
from yolo.datasets.sources.idx import class_names, find_idx, read_pair
from yolo.datasets.sources.packed import Array, check_named

PARTS = {"train": "train", "valid": "t10k"}


def mnist(folder: Path, names: tuple[str, ...] | None = None, name: str = "mnist") -> Dataset:
    """Read the four files of train and t10k, plain or gzipped; raises DataError.

    Classes are named digit0 … unless `names` are given.
    """
    splits = {split: _split(folder, part) for split, part in PARTS.items()}
    names = names or class_names(*(labels for _, labels in splits.values()))
    for _, labels in splits.values():
        check_named(labels, names, str(folder))
    check_names(names)
    total = sum(len(labels) for _, labels in splits.values())
    return Dataset(name, names, _pictures(splits, names), total)


def _pictures(splits: dict[str, tuple[Array, Array]], names: tuple[str, ...]) -> Iterator[Picture]:
    for split, (images, labels) in splits.items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = class_path(split, number, names[label], ".png")
            yield Picture(path, encoded_png(image), (split,))


def _split(folder: Path, part: str) -> tuple[Array, Array]:
    return read_pair(find_idx(folder, f"{part}-images", 3))


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--names", metavar="FILE", help="class names; default: digit0 to digit9")


def _read_with(args: Namespace) -> Dataset:
    names = read_names(args.names) if args.names else None
    return mnist(Path(args.source), names, args.name)


FORMAT = DatasetFormat(_add_options, _read_with)
