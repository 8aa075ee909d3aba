"""CIFAR-10: its binary version, or folders of images by class, also in a .tar."""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from numpy.typing import NDArray

from yolo.datasets.data import IMAGES, SPLITS, Split
from yolo.datasets.formats.classes import check_names, class_path
from yolo.datasets.formats.pictures import Dataset, Picture, Skipped
from yolo.datasets.formats.sources import decode_image, encoded_png, skipped
from yolo.errors import DataError
from yolo.files import read_bytes

NAMES: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer")
NAMES += ("dog", "frog", "horse", "ship", "truck")
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE  # a class, then the planes of red, green, blue
BATCH = re.compile(r"_batch[^/]*\.bin$")
FOLDERS: dict[str, Split] = {"train": "train", "test": "valid", "valid": "valid", "val": "valid"}
Files = dict[str, Path | bytes]
Array = NDArray[np.uint8]


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


def nothing_in(source: Path) -> DataError:
    return DataError(f"{source}: neither data_batch_1.bin nor train/CLASS/ with images in it")


def read_files(source: Path, splits: Sequence[Split] = SPLITS) -> Files:
    """Batches and images of these splits by their sorted paths; raises DataError."""
    with _readable(source):
        found = {
            path: file if isinstance(file, Path) else file.read()
            for path, file in _files(source, splits)
        }
    return dict(sorted(found.items()))


def class_names(source: Path) -> tuple[str, ...]:
    """CIFAR-10's where there is a batch, else the folders'; raises DataError."""
    found = []
    with _readable(source):
        for path, _ in _files(source):
            if is_batch(path):
                return NAMES
            found.append(path)
    if not found:
        raise nothing_in(source)
    return folder_names(found)


def split_of(path: str) -> Split | None:
    """The split of a batch, or of an image in SPLIT/CLASS/ at any depth; None for other files."""
    *folders, name = path.split("/")
    if is_batch(name):
        return "valid" if name.startswith("test") else "train"
    is_image = os.path.splitext(name)[1].lower() in IMAGES
    return FOLDERS.get(folders[-2]) if is_image and len(folders) >= 2 else None


def is_batch(path: str) -> bool:
    return BATCH.search(path) is not None


def batches_of(files: Files) -> dict[str, bytes]:
    """The contents of the batches; raises DataError."""
    return {path: content_of(file) for path, file in files.items() if is_batch(path)}


def content_of(file: Path | bytes) -> bytes:
    """Raises DataError."""
    return file if isinstance(file, bytes) else read_bytes(file, kind=DataError)


def read_batch(content: bytes, name: str) -> tuple[Array, Array]:
    """Images (N, 32, 32, 3) RGB and their classes (N,); raises DataError."""
    if not content or len(content) % RECORD:
        raise DataError(f"{name}: {len(content)} bytes, no multiple of {RECORD}")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    classes = records[:, 0]
    if classes.max() >= len(NAMES):
        raise DataError(f"{name}: class {classes.max()} of {len(NAMES)}")
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), classes


def class_folder(path: str) -> str:
    """The class of an image in SPLIT/CLASS/."""
    return path.split("/")[-2]


def folder_names(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({class_folder(path) for path in paths}))


def _files(
    source: Path, splits: Sequence[Split] = SPLITS
) -> Iterator[tuple[str, Path | IO[bytes]]]:
    if source.is_dir():
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            name = path.relative_to(source).as_posix()
            if split_of(name) in splits:
                yield name, path
        return
    with tarfile.open(source) as archive:
        for member in archive:
            wanted = member.isfile() and split_of(member.name) in splits
            if wanted and (file := archive.extractfile(member)):
                yield member.name, file


@contextlib.contextmanager
def _readable(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = str(error).partition("\n")[0].rstrip(":")  # tarfile lists what it tried
        raise DataError(f"{source}: can't read: {reason}") from error


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
