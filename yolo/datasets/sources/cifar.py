"""CIFAR-10: its binary version, or folders of images by class, also in a .tar."""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from yolo.datasets.data import SPLITS, Split
from yolo.datasets.items import Items
from yolo.datasets.lists import IMAGES
from yolo.datasets.sources.arrays import of_files, of_pixels
from yolo.datasets.sources.packed import Array, Packed, check_named, numbered
from yolo.errors import DataError
from yolo.files import read_bytes

NAMES: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer")
NAMES += ("dog", "frog", "horse", "ship", "truck")
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE  # a class, then the planes of red, green, blue
BATCH = re.compile(r"_batch[^/]*\.bin$")
ARCHIVE = re.compile(r"\.(tar(\.\w+)?|tgz|tbz2?|txz)$")
BATCHES = ("*_batch*.bin", "cifar-10-batches-bin/*_batch*.bin")  # in a folder
FOLDERS: dict[str, Split] = {"train": "train", "test": "valid", "valid": "valid", "val": "valid"}
Files = dict[str, Path | bytes]


class Cifar(Packed):
    """CIFAR-10's binary version in a file, folder or .tar, or SPLIT/CLASS/ images in a .tar."""

    @classmethod
    def suits(cls, path: Path) -> bool:
        if path.is_dir():
            return any(True for batch in BATCHES for _ in path.glob(batch))
        return is_batch(path.name) or ARCHIVE.search(path.name) is not None

    def names(self, classes: int | None) -> tuple[str, ...]:
        return NAMES if is_batch(self.path.name) else class_names(self.path)

    def items(self, split: Split, names: tuple[str, ...]) -> Items:
        """The images of a split; raises DataError."""
        if is_batch(self.path.name):
            content = content_of(self.path)
            return self._binary({str(self.path): content}, names)
        files = read_files(self.path, (split,))
        if not files:
            class_names(self.path)  # has its own error where the other split has none either
            raise DataError(f"{self.where}: {split} has no images in it")
        if batches := batches_of(files):
            return self._binary({f"{self.path}/{p}": c for p, c in batches.items()}, names)
        return self._images(files, names)

    def _binary(self, batches: dict[str, bytes], names: tuple[str, ...]) -> Items:
        pairs = [read_batch(content, name) for name, content in batches.items()]
        images = np.concatenate([images for images, _ in pairs])
        classes = np.concatenate([classes for _, classes in pairs])
        check_named(classes, names, self.where)
        each = [numbered(name, c) for name, (_, c) in zip(batches, pairs, strict=True)]
        return of_pixels(images, classes, list(chain(*each)), self.where)

    def _images(self, files: dict[str, Path | bytes], names: tuple[str, ...]) -> Items:
        folders = {path: class_folder(path) for path in files}
        strange = next((path for path, folder in folders.items() if folder not in names), None)
        if strange:
            raise DataError(f"{self.where}: {self.path}/{strange} belongs to none of the classes")
        numbers = [names.index(folder) for folder in folders.values()]
        contents = {f"{self.path}/{p}": content_of(file) for p, file in files.items()}
        return of_files(contents, numbers, self.where)


def nothing_in(source: Path) -> DataError:
    return DataError(f"{source}: neither data_batch_1.bin nor train/CLASS/ with images in it")


def read_files(source: Path, splits: Sequence[Split] = SPLITS) -> Files:
    """Batches and images of these splits by their sorted paths; raises DataError."""
    with _readable(source):
        files = {
            path: file if isinstance(file, Path) else file.read()
            for path, file in _files(source, splits)
        }
    return dict(sorted(files.items()))


def class_names(source: Path) -> tuple[str, ...]:
    """CIFAR-10's class names where there is a batch, else the folders'; raises DataError."""
    paths = []
    with _readable(source):
        for path, _ in _files(source):
            if is_batch(path):
                return NAMES
            paths.append(path)
    if not paths:
        raise nothing_in(source)
    return folder_names(paths)


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
    """The bytes of a file; raises DataError."""
    return file if isinstance(file, bytes) else read_bytes(file, kind=DataError)


def read_batch(content: bytes, name: str) -> tuple[Array, Array]:
    """Images (N, 32, 32, 3) RGB and their classes (N,); raises DataError."""
    if not content or len(content) % RECORD:
        raise DataError(f"{name}: {len(content)} bytes, not a multiple of {RECORD}")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    classes = records[:, 0]
    if classes.max() >= len(NAMES):
        raise DataError(f"{name}: class {classes.max()}, but there are {len(NAMES)} classes")
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
