"""Names of files as they are now, by which finished work is found again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from pruning.calibration.images import DATA
from yolo.datasets import sources
from yolo.datasets.data import find
from yolo.errors import DarknetError

Stamp = tuple[str, int, int]  # path, size, time of the last change


def stamps(name: str | None) -> list[Stamp]:
    """Paths, sizes and times of a file, of all in a folder, or of the lists of a data file."""
    if name is None:
        return []
    path = Path(name)
    paths = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    result = [_stamp(p) for p in paths]
    if path.suffix.lower() in DATA:
        data = sources.load(name)
        for split_sources in data.sources.values():
            for source in split_sources:
                result += stamps(find(source, data.folders))
    return result


def stamps_key(data: str | None, points: int, calibrate: str | None, count: int) -> str:
    """A short name of the images that evaluate networks (by the rule `points`) or calibrate."""
    return digest_of([stamps(data), points, stamps(calibrate), count if calibrate else None])


def digest_of(settings: object) -> str:
    """16 hexadecimal digits for anything that JSON can hold."""
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise DarknetError(f"{path}: can't read it: {(error.strerror or '').lower()}") from error
    return os.path.realpath(path), status.st_size, status.st_mtime_ns
