"""What to train and to validate on: Darknet's .data files and the YAML of the Ultralytics tools."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from yolo.datasets.items import Items
from yolo.errors import DataError
from yolo.files import read_bytes

Split = Literal["train", "valid"]
SPLITS: tuple[Split, ...] = ("train", "valid")
IMAGES = {".bmp", ".dib", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm"}
IMAGES |= {".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Source:
    """An image list, a folder of images, or a file of many; `where` it is named: file:line."""

    text: str
    where: str


@dataclass(frozen=True)
class Data:
    """A data set: its class names and where its images are listed.

    `labels`: what the path of a classifier's image contains, for every class. `difficult`: a list
    with an image for every one of valid, whose label file has the objects that mAP ignores.
    """

    path: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    sources: Mapping[str, tuple[Source, ...]] = field(repr=False)
    folders: tuple[str, ...] = ()  # what paths may be relative to, behind the working directory
    top: int | None = None
    backup: str | None = None
    difficult: Source | None = None
    _found: dict[Split, Items] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Data:
        """Read a .data or .yaml file; raises DataError."""
        if Path(path).suffix.lower() in (".yaml", ".yml"):
            return _load_yaml(str(path))
        return _load_data(str(path))

    @property
    def classes(self) -> int:
        return len(self.names)

    def images(self, split: Split) -> tuple[str, ...]:
        """The names of a split's images: as they can be opened, where they are files.

        Raises DataError where there is no list, where it is empty, or where no image exists.
        """
        return self.items(split).names

    def items(self, split: Split) -> Items:
        """The images of a split; lists and files of many images are read once. Raises DataError."""
        if split not in self._found:
            self._found[split] = self._items(split)
        return self._found[split]

    def _items(self, split: Split) -> Items:
        from yolo.datasets.forms import form_of
        from yolo.datasets.listed import read_lists

        sources = self.sources.get(split)
        if not sources:
            raise DataError(f"{self.path}: names no {split} images ({split}=)")
        places = [find(source, self.folders) for source in sources]
        forms = [form_of(place, s.where) for place, s in zip(places, sources, strict=True)]
        form = forms[0]
        if not any(forms):
            return read_lists(self, split, places)
        if not form or len(forms) > 1:
            raise DataError(f"{sources[0].where}: a file of many images can't be one of several")
        return form.items(split, self.names)


def find(source: Source, folders: Iterable[str]) -> str:
    """Where a source is; raises DataError."""
    place = resolve(source.text, folders)
    if place is None:
        raise DataError(f"{source.where}: there is no {source.text}")
    return place


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


def _load_data(path: str) -> Data:
    """read_data_cfg of option_list.c: the first of two equal keys counts."""
    options: dict[str, Source] = {}
    for number, line in read_lines(path, "data file"):
        if line[0] in "#;":
            continue
        key, equals, value = line.partition("=")
        if not equals or not value.strip():
            raise DataError(f"{path}:{number}: expected key = value, found {line[:60]!r}")
        options.setdefault("".join(key.split()), Source(value.strip(), f"{path}:{number}"))
    folders = (os.path.dirname(path) or ".",)
    names, labels = _names(path, options, folders)
    return Data(
        path=path,
        names=names,
        labels=labels,
        sources={key: (options[key],) for key in SPLITS if key in options},
        folders=folders,
        top=_integer(options["top"], "top") if "top" in options else None,
        backup=options["backup"].text if "backup" in options else None,
        difficult=options.get("difficult"),
    )


def _names(
    path: str, options: Mapping[str, Source], folders: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Detectors use `names`, classifiers `labels`; either stands for both (get_metadata)."""
    if "names" not in options and "labels" not in options:
        names = _own_names(options, folders)
        if not names:
            raise DataError(f"{path}: neither names= nor labels= gives the class names")
        return names, names
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


def _own_names(options: Mapping[str, Source], folders: tuple[str, ...]) -> tuple[str, ...]:
    """What files of many images call their classes; () for lists."""
    from yolo.datasets.forms import form_of

    sources = [options[key] for key in SPLITS if key in options]
    places = {resolve(s.text, folders) or s.text: s.where for s in sources}
    forms = [form_of(place, where) for place, where in places.items()]
    if None in forms or not forms:
        return ()
    given = options.get("classes")
    classes = _integer(given, "classes") if given else None
    names = max((form.names(classes) for form in forms if form), key=len)
    if given and len(names) != classes:
        text = f"but {sources[0].text} has {len(names)} classes"
        raise DataError(f"{given.where}: classes={given.text}, {text}")
    return names


def _name_list(source: Source, folders: tuple[str, ...], classes: Source | None) -> tuple[str, ...]:
    place = find(source, folders)
    lines = read_lines(place, "list of names")
    for expected, (number, _) in enumerate(lines, 1):
        if number != expected:
            raise DataError(f"{place}:{expected}: a blank line among the names")
    names = tuple(line for _, line in lines)
    if not names:
        raise DataError(f"{place}: no names in it")
    if classes and _integer(classes, "classes") != len(names):
        raise DataError(
            f"{classes.where}: classes={classes.text}, but {place} has {len(names)} names"
        )
    return names


def _integer(source: Source, key: str) -> int:
    if not source.text.isdecimal() or not 0 < int(source.text[:9]) < 2**20:
        raise DataError(f"{source.where}: {key}={source.text[:40]} is not a positive integer")
    return int(source.text)


def _load_yaml(path: str) -> Data:
    content, lines = _parse_yaml(path)
    beside = os.path.dirname(path) or "."
    root = content.get("path") or "."
    if not isinstance(root, str):
        raise DataError(f"{path}: path is not a text")
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
        raise DataError(f"{path}: a name that is not a text")
    count = content.get("nc", len(names))
    if count != len(names):
        raise DataError(f"{path}: nc: {count}, but there are {len(names)} names")
    return tuple(str(name) for name in names)


def _yaml_sources(
    path: str, key: str, value: object, lines: Mapping[str, int]
) -> tuple[Source, ...]:
    texts = value if isinstance(value, list) else [value]
    where = f"{path}:{lines[key]}"
    if not all(isinstance(text, str) and text for text in texts):
        raise DataError(f"{where}: {key} is neither a path nor a list of paths")
    return tuple(Source(str(text), where) for text in texts)
