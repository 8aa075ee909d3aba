"""Data sets for classifiers: the path of an image contains its class, as Darknet wants it."""

from __future__ import annotations

from collections.abc import Iterable

from yolo.errors import DataError


def class_path(split: str, number: int, name: str, ending: str) -> str:
    """The path of an image of class `name`: train/00017_cat.png"""
    return f"{split}/{number:05}{class_label(name)}{ending.removeprefix('.')}"


def class_label(name: str) -> str:
    """The part of a path that marks this class alone: _man. isn't in 00001_woman.png"""
    return f"_{name}."


def check_names(names: Iterable[str]) -> None:
    """Raises DataError where a path would contain the labels of two classes."""
    names = list(names)
    for name in names:
        if "/" in name:
            raise DataError(f"a class can't be named {name!r}: its name goes into paths")
        within = [each for each in names if class_label(each) in class_label(name)]
        if within != [name]:
            raise DataError(
                f"classes {' and '.join(map(repr, within))} can't be distinguished in paths: "
                "rename one of them"
            )
