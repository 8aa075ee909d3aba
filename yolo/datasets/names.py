"""The names of classes, from files that users give."""

from __future__ import annotations

from yolo.datasets import sources
from yolo.datasets.lists import read_lines


def class_names(data: str | None, names: str | None) -> tuple[str, ...]:
    """Those of a .data or .yaml file, or of a file with one a line; () where neither is given.

    Raises DataError.
    """
    if data:
        return sources.load(data).names
    return tuple(line for _, line in read_lines(names, "names")) if names else ()
