"""Text files with one name or path a line, and the files that the paths lead to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from yolo.errors import DataError
from yolo.files import read_bytes

IMAGES = {".bmp", ".dib", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm"}
IMAGES |= {".tif", ".tiff", ".webp"}


def resolve(
    path: str, folders: Iterable[str], exists: Callable[[str], bool] = os.path.exists
) -> str | None:
    """The first path that exists: relative to the working directory, then to `folders`."""
    paths = (path, *(os.path.join(folder, path) for folder in folders))
    return next((each for each in paths if exists(each)), None)


def read_text(path: str, what: str) -> str:
    """The content of a text file without byte order mark; raises DataError."""
    content = read_bytes(path, what, DataError)
    return os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))


def read_lines(path: str, what: str) -> list[tuple[int, str]]:
    """Numbered lines that aren't blank, stripped of blanks."""
    lines = enumerate((line.strip(" \t\r") for line in read_text(path, what).split("\n")), 1)
    return [(number, line) for number, line in lines if line]
