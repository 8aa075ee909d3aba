"""A .data file as data: Darknet's own, or the YAML of the Ultralytics tools."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from yolo.datasets.lists import read_lines, read_text, resolve
from yolo.errors import DataError

Split = Literal["train", "valid"]
SPLITS: tuple[Split, ...] = ("train", "valid")


@dataclass(frozen=True)
class Setting:
    """The value of a key, and `where` it is: file:line."""

    text: str
    where: str


@dataclass(frozen=True, eq=False)  # one file may be read twice, and its lists differ by then
class Data:
    """A data set: its class names and where its images are listed.

    `labels`: the part of a classifier's image path that names its class, for every class.
    `difficult`: a list with an image for every one of valid, whose label file has the objects that
    mAP ignores. `sources.load` reads one, and `sources.items` opens its splits.
    """

    path: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    sources: Mapping[str, tuple[Setting, ...]] = field(repr=False)
    folders: tuple[str, ...] = ()  # tried for relative paths after the working directory
    top: int | None = None
    backup: str | None = None
    difficult: Setting | None = None
    count: Setting | None = None  # number of classes, where the file gives it

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Data:
        """Read a .data or .yaml file; raises DataError.

        `names` is () where the class names come from the files of images.
        """
        if Path(path).suffix.lower() in (".yaml", ".yml"):
            return _read_yaml(str(path))
        return _read_data(str(path))

    @property
    def classes(self) -> int:
        return len(self.names)


def find(value: Setting, folders: Iterable[str]) -> str:
    """The path of the file or folder that the value names; raises DataError."""
    path = resolve(value.text, folders)
    if path is None:
        raise DataError(f"{value.where}: there is no {value.text}")
    return path


def integer(value: Setting, key: str) -> int:
    """The value of a key; raises DataError unless it is a positive integer."""
    if not value.text.isdecimal() or not 0 < int(value.text[:9]) < 2**20:
        raise DataError(f"{value.where}: {key}={value.text[:40]} is not a positive integer")
    return int(value.text)


def _read_data(path: str) -> Data:
    """read_data_cfg of option_list.c: the first of two equal keys counts."""
    options: dict[str, Setting] = {}
    for number, line in read_lines(path, "data file"):
        if line[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        if not equals or not value.strip():
            raise DataError(f"{path}:{number}: expected key = value, found {line[:60]!r}")
        options.setdefault("".join(key.split()), Setting(value.strip(), f"{path}:{number}"))
    folders = (os.path.dirname(path) or ".",)
    names, labels = _names(path, options, folders)
    return Data(
        path=path,
        names=names,
        labels=labels,
        sources={key: (options[key],) for key in SPLITS if key in options},
        folders=folders,
        top=integer(options["top"], "top") if "top" in options else None,
        backup=options["backup"].text if "backup" in options else None,
        difficult=options.get("difficult"),
        count=options.get("classes"),
    )


def _names(
    path: str, options: Mapping[str, Setting], folders: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`names` for detectors, `labels` for classifiers; one may replace the other (get_metadata)."""
    if "names" not in options and "labels" not in options:
        return (), ()
    lists = {
        key: _name_list(options[key], folders, options.get("classes"))
        for key in ("names", "labels")
        if key in options
    }
    names = lists.get("names") or lists["labels"]
    labels = lists.get("labels") or names
    if len(names) != len(labels):
        raise DataError(f"{path}: {len(names)} names, but {len(labels)} labels")
    return names, labels


def _name_list(
    value: Setting, folders: tuple[str, ...], classes: Setting | None
) -> tuple[str, ...]:
    path = find(value, folders)
    lines = read_lines(path, "list of names")
    for expected, (number, _) in enumerate(lines, 1):
        if number != expected:
            raise DataError(f"{path}:{expected}: a blank line among the names")
    names = tuple(line for _, line in lines)
    if not names:
        raise DataError(f"{path}: holds no names")
    if classes and integer(classes, "classes") != len(names):
        raise DataError(
            f"{classes.where}: classes={classes.text}, but {path} has {len(names)} names"
        )
    return names


def _read_yaml(path: str) -> Data:
    content, lines = _parse_yaml(path)
    beside = os.path.dirname(path) or "."
    root = content.get("path") or "."
    if not isinstance(root, str):
        raise DataError(f"{path}: path must be a text")
    folders = tuple(dict.fromkeys((root, os.path.join(beside, root), beside)))
    names = _yaml_names(path, content)
    return Data(
        path=path,
        names=names,
        labels=names,
        sources={
            split: _yaml_sources(path, key, content[key], lines)
            for split, key in (("train", "train"), ("valid", "val"))
            if content.get(key)
        },
        folders=folders,
    )


def _parse_yaml(path: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping, and the line of every key."""
    try:
        import yaml
    except ImportError as error:
        raise DataError(f"{path}: reading YAML needs PyYAML: pip install pyyaml") from error
    text = read_text(path, "data file")
    try:
        content = yaml.safe_load(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise DataError(f"{where}: {getattr(error, 'problem', None) or 'not YAML'}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected train:, val: and names:")
    return content, {key.value: key.start_mark.line + 1 for key, _ in tree.value}


def _yaml_names(path: str, content: Mapping[str, Any]) -> tuple[str, ...]:
    """A list of names, or a mapping of 0, 1, 2 … to names."""
    names = content.get("names")
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"{path}: names must count from 0 without a gap")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: no names: expected a list or a mapping")
    if any(isinstance(name, dict | list) or name is None for name in names):
        raise DataError(f"{path}: names: every name must be a text")
    count = content.get("nc", len(names))
    if count != len(names):
        raise DataError(f"{path}: nc: {count}, but there are {len(names)} names")
    return tuple(str(name) for name in names)


def _yaml_sources(
    path: str, key: str, value: object, lines: Mapping[str, int]
) -> tuple[Setting, ...]:
    texts = value if isinstance(value, list) else [value]
    where = f"{path}:{lines[key]}"
    if not all(isinstance(text, str) and text for text in texts):
        raise DataError(f"{where}: {key} is neither a path nor a list of paths")
    return tuple(Setting(str(text), where) for text in texts)
