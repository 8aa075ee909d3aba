"""CIFAR-10, or whatever lies in folders by class, as a data set of images."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from yolo.datasets.formats.classes import check_names, class_path
from yolo.datasets.formats.common import decode_image, encoded_png, skipped
from yolo.datasets.formats.options import DatasetFormat, no_options
from yolo.datasets.formats.pictures import Dataset, Picture, Skipped
from yolo.datasets.sources.cifar import (
    NAMES,
    Files,
    batches_of,
    class_folder,
    content_of,
    folder_names,
    nothing_in,
    read_batch,
    read_files,
    split_of,
)
from yolo.datasets.sources.packed import Array
from yolo.errors import DataError


def cifar10(source: Path, name: str = "cifar10") -> Dataset:
    """Read data_batch_*.bin and test_batch.bin, or train/CLASS/ and test/CLASS/ with images.

    `source` is a folder or a .tar, .tar.gz … of one. Raises DataError.
    """
    files = read_files(source)
    if batches := batches_of(files):
        pairs = [read_batch(content, f"{source}/{path}") for path, content in batches.items()]
        total = sum(len(classes) for _, classes in pairs)
        return Dataset(name, NAMES, _records(zip(batches, pairs, strict=True)), total)
    if not files:
        raise nothing_in(source)
    names = folder_names(files)
    check_names(names)
    return Dataset(name, names, _images(files), len(files))


def _records(batches: Iterable[tuple[str, tuple[Array, Array]]]) -> Iterator[Picture]:
    numbers = dict.fromkeys(("train", "valid"), 0)
    for path, (images, classes) in batches:
        split = split_of(path) or "train"
        for image, number in zip(images, classes, strict=True):
            target = class_path(split, numbers[split], NAMES[number], ".png")
            numbers[split] += 1
            yield Picture(target, encoded_png(np.ascontiguousarray(image[..., ::-1])), (split,))


def _images(files: Files) -> Iterator[Picture | Skipped]:
    numbers = dict.fromkeys(("train", "valid"), 0)
    for path, file in files.items():
        split = split_of(path) or "train"
        try:
            decode_image(content_of(file), path)
        except DataError as error:
            yield skipped(path, error)
            continue
        target = class_path(split, numbers[split], class_folder(path), PurePosixPath(path).suffix)
        numbers[split] += 1
        yield Picture(target, file, (split,))


def _read_with(args: Namespace) -> Dataset:
    return cifar10(Path(args.source), args.name)


FORMAT = DatasetFormat(no_options, _read_with)
