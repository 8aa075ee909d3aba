"""CIFAR-10: its binary version, or folders of images by class, also in a .tar."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from yolo.datasets.data import IMAGES
from yolo.datasets.formats.classes import check_names, class_path
from yolo.datasets.formats.pictures import Dataset, Picture, Skipped
from yolo.datasets.formats.sources import decode_image, encoded_png, skipped
from yolo.errors import DataError
from yolo.files import read_bytes

NAMES: tuple[str, ...] = ("airplane", "automobile", "bird", "cat", "deer")
NAMES += ("dog", "frog", "horse", "ship", "truck")
SIDE = 32
RECORD = 1 + 3 * SIDE * SIDE  # a class, then the planes of red, green, blue
SPLITS = {"train": "train", "test": "valid", "valid": "valid", "val": "valid"}
Files = dict[str, Path | bytes]


def cifar10(source: Path, name: str = "cifar10") -> Dataset:
    """Read data_batch_*.bin and test_batch.bin, or train/CLASS/ and test/CLASS/ with images.

    `source` is a folder or a .tar, .tar.gz … of one. Raises DataError.
    """
    files = _files(source)
    batches = [path for path in files if PurePosixPath(path).match("*_batch*.bin")]
    if batches:
        return _binary(source, name, {path: _bytes(files[path]) for path in batches})
    return _folders(source, name, files)


def _files(source: Path) -> Files:
    """Batches and images by their paths."""
    try:
        if source.is_dir():
            found = sorted(path for path in source.rglob("*") if path.is_file())
            wanted = [path for path in found if _is_wanted(path.name)]
            return {path.relative_to(source).as_posix(): path for path in wanted}
        with tarfile.open(source) as archive:
            members = [m for m in archive if m.isfile() and _is_wanted(m.name)]
            read = ((m.name, archive.extractfile(m)) for m in members)
            return {path: file.read() for path, file in sorted(read) if file}
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{source}: can't read: {error}") from error


def _is_wanted(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in (*IMAGES, ".bin")


def _bytes(file: Path | bytes) -> bytes:
    return file if isinstance(file, bytes) else read_bytes(file, kind=DataError)


def _binary(source: Path, name: str, batches: dict[str, bytes]) -> Dataset:
    for path, content in batches.items():
        if not content or len(content) % RECORD:
            raise DataError(f"{source}/{path}: {len(content)} bytes, no multiple of {RECORD}")
        if max(content[::RECORD]) >= len(NAMES):
            raise DataError(f"{source}/{path}: class {max(content[::RECORD])} of {len(NAMES)}")
    total = sum(len(content) // RECORD for content in batches.values())
    return Dataset(name, NAMES, _records(batches), total)


def _records(batches: dict[str, bytes]) -> Iterator[Picture]:
    numbers = dict.fromkeys(("train", "valid"), 0)
    for path, content in sorted(batches.items()):
        split = "valid" if PurePosixPath(path).name.startswith("test") else "train"
        for record in np.frombuffer(content, np.uint8).reshape(-1, RECORD):
            image = record[1:].reshape(3, SIDE, SIDE).transpose(1, 2, 0)[..., ::-1]
            target = class_path(split, numbers[split], NAMES[record[0]], ".png")
            numbers[split] += 1
            yield Picture(target, encoded_png(np.ascontiguousarray(image)), (split,))


def _folders(source: Path, name: str, files: Files) -> Dataset:
    """SPLIT/CLASS/IMAGE, at any depth."""
    found = {
        path: (SPLITS[parts[-3]], parts[-2])
        for path in files
        if len(parts := PurePosixPath(path).parts) >= 3 and parts[-3] in SPLITS
    }
    if not found:
        raise DataError(f"{source}: neither data_batch_1.bin nor train/CLASS/ with images in it")
    names = tuple(sorted({each for _, each in found.values()}))
    check_names(names)
    return Dataset(name, names, _images(found, files), len(found))


def _images(found: dict[str, tuple[str, str]], files: Files) -> Iterator[Picture | Skipped]:
    numbers = dict.fromkeys(("train", "valid"), 0)
    for path, (split, each) in found.items():
        try:
            decode_image(_bytes(files[path]), path)
        except DataError as error:
            yield skipped(path, error)
            continue
        target = class_path(split, numbers[split], each, PurePosixPath(path).suffix)
        numbers[split] += 1
        yield Picture(target, files[path], (split,))
