"""Text files that name things line by line, and where the paths in them lead."""

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
    """The first that exists: from the working directory, as in Darknet, then from `folders`."""
    places = (path, *(os.path.join(folder, path) for folder in folders))
    return next((place for place in places if exists(place)), None)


def read_text(path: str, what: str) -> str:
    """The content of a text file without byte order mark; raises DataError."""
    content = read_bytes(path, what, DataError)
    return os.fsdecode(content.removeprefix(b"\xef\xbb\xbf"))


def read_lines(path: str, what: str) -> list[tuple[int, str]]:
    """Lines that aren't blank, without blanks around them, with their numbers."""
    lines = enumerate((line.strip(" \t\r") for line in read_text(path, what).split("\n")), 1)
    return [(number, line) for number, line in lines if line]
