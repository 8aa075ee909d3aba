"""The names of classes, from files that users give."""

from __future__ import annotations

from yolo.datasets import sources
from yolo.datasets.lists import read_lines
from yolo.errors import DarknetError


def class_names(data: str | None, names: str | None, classes: int, cfg: str) -> tuple[str, ...]:
    """Those of a .data or .yaml file, or of a file with one a line; () where neither is given.

    Raises DarknetError where they are not as many as the `classes` of `cfg`, DataError.
    """
    if data:
        labels = sources.load(data).names
    else:
        labels = tuple(line for _, line in read_lines(names, "names")) if names else ()
    if data or names:
        check_names(labels, classes, cfg, data or names or "")
    return labels


def check_names(names: tuple[str, ...], classes: int, cfg: str, where: str) -> None:
    """Raises DarknetError where names, which come from `where`, are not as many as the classes."""
    if len(names) != classes:
        raise DarknetError(f"{cfg}: has {classes} classes, but {where} names {len(names)}")
