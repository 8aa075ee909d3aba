"""Write a data set as Darknet wants it: images/, labels/, lists, names and a .data file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolo.datasets.formats.classes import class_label
from yolo.datasets.formats.folder import MARK, check_target, place_file, replaced
from yolo.datasets.formats.pictures import Dataset, Picture, Polygon, Skipped
from yolo.errors import DataError
from yolo.files import content_writer, write_files

PictureProgress = Callable[[Iterable[Picture | Skipped], int], Iterable[Picture | Skipped]]
SPLITS = ("train", "valid")
DIFFICULT = "difficult"  # the key, its list and the folder of its label files


@dataclass(frozen=True)
class Destination:
    """Folders that a data set is written to.

    `top` gets the .data and .names files; its lists are named relative to it. With `absolute` all
    paths are absolute and the labels are also beside the images, for Darknet itself.
    """

    folder: Path
    top: Path
    absolute: bool = False

    def named(self, name: str) -> str:
        """A file of `folder` as the .data file names it."""
        if self.absolute:
            return str(self.folder.resolve() / name)
        return name if self.top == self.folder else f"{self.folder.name}/{name}"

    def listed(self, path: str) -> str:
        """An image as the lists, which are in `folder`, name it."""
        return str(self.folder.resolve() / path) if self.absolute else path


@dataclass(frozen=True)
class Summary:
    """Counts of a data set that was written."""

    data: Path
    images: dict[str, int]  # by split
    boxes: int | None  # None for classifiers
    clipped: int
    dropped: int
    skipped: tuple[Skipped, ...]
    notes: dict[str, int]


def check_place(destination: Destination, name: str, force: bool) -> None:
    """Raises DataError, before any work, where a data set of this name can't be written."""
    lists = {f"{key}.txt" for key in (*SPLITS, DIFFICULT)}
    files = {f"{name}.{ending}" for ending in ("data", "names", "labels")}
    known = {"images", "labels", "polygons", DIFFICULT, *SPLITS, *lists, *files}
    check_target(destination.folder, destination.top / f"{name}.data", known, force)


def write(
    dataset: Dataset, destination: Destination, progress: PictureProgress = lambda p, _: p
) -> Summary:
    """Write the data set, whole or not at all; raises DataError where a split has no image."""
    with replaced(destination.folder) as folder:
        written = _Written(folder, beside=destination.absolute)
        for picture in progress(dataset.pictures, dataset.total):
            written.add(picture)
        written.check(dataset.name)
        written.add_difficult()
        for key, paths in written.lists.items():
            lines = "".join(f"{destination.listed(path)}\n" for path in paths)
            (folder / f"{key}.txt").write_text(lines, encoding="utf-8")
        top = folder if destination.top == destination.folder else destination.top
        texts = _texts(dataset, destination, written.lists, is_classifier=written.boxes is None)
        write_files([(top / name, content_writer(text.encode())) for name, text in texts.items()])
    return written.summary(destination.top / f"{dataset.name}.data", dataset.notes)


class _Written:
    """Writes pictures into a folder, and counts them."""

    def __init__(self, folder: Path, beside: bool) -> None:
        self.folder, self.beside = folder, beside
        self.lists: dict[str, list[str]] = {split: [] for split in SPLITS}
        self.difficult: dict[str, np.ndarray] = {}  # by the paths of valid images
        self.skipped: list[Skipped] = []
        self.boxes: int | None = None
        self.clipped = self.dropped = 0

    def add(self, picture: Picture | Skipped) -> None:
        """Write a picture with its labels and list it; a skipped one is only counted."""
        if isinstance(picture, Skipped):
            self.skipped.append(picture)
            return
        place_file(picture.content, self.folder / picture.path)
        if picture.boxes is not None:
            self.boxes = (self.boxes or 0) + len(picture.boxes.rows)
            self.clipped += picture.boxes.clipped
            self.dropped += picture.boxes.dropped
            labels = self._text(picture.path, "labels", picture.boxes.rows)
            if self.beside:
                place_file(labels, (self.folder / picture.path).with_suffix(".txt"))
        if picture.polygons is not None:
            self._text(picture.path, "polygons", [_polygon_row(p) for p in picture.polygons])
        if picture.difficult and len(picture.difficult.rows) and "valid" in picture.splits:
            self.difficult[picture.path] = picture.difficult.rows
        for split in picture.splits:
            self.lists[split].append(picture.path)

    def add_difficult(self) -> None:
        """Write a list as long as valid, of images that needn't exist, and their label files."""
        if not self.difficult:
            return
        images = self.lists["valid"]
        self.lists[DIFFICULT] = [_moved(image, DIFFICULT) for image in images]
        for image in images:  # without a file Darknet would complain
            self._text(image, DIFFICULT, self.difficult.get(image, ()))

    def _text(self, image: str, kind: str, rows: Iterable[np.ndarray]) -> Path:
        path = (self.folder / _moved(image, kind)).with_suffix(".txt")
        place_file("".join(map(row_text, rows)).encode(), path)
        return path

    def check(self, name: str) -> None:
        """Raises DataError where a split has no image, or no image has a box."""
        for split, paths in self.lists.items():
            if not paths:
                first = (
                    f"; {self.skipped[0].name}: {self.skipped[0].reason}" if self.skipped else ""
                )
                raise DataError(f"{name}: no usable image for {split}.txt{first}")
        if self.boxes == 0:
            raise DataError(f"{name}: no image has a box, or none of a class that is kept")

    def summary(self, data: Path, notes: dict[str, int]) -> Summary:
        images = {split: len(self.lists[split]) for split in SPLITS}
        skipped = tuple(self.skipped)
        return Summary(data, images, self.boxes, self.clipped, self.dropped, skipped, notes)


def _moved(image: str, kind: str) -> str:
    return image.replace("images/", f"{kind}/", 1)


def row_text(row: np.ndarray) -> str:
    """A line of a label file, with the fewest digits that read back as the same float32."""
    numbers = (np.format_float_positional(np.float32(value), trim="-") for value in row[1:])
    return " ".join([str(int(row[0])), *numbers]) + "\n"


def _polygon_row(polygon: Polygon) -> np.ndarray:
    return np.concatenate([[polygon.number], polygon.points.reshape(-1)]).astype(np.float32)


def _texts(
    dataset: Dataset, destination: Destination, lists: Iterable[str], is_classifier: bool
) -> dict[str, str]:
    """Names and contents of the files in `top`."""
    name, count = dataset.name, len(dataset.names)
    root = f"{destination.top.resolve()}/" if destination.absolute else ""
    lines = [MARK, f"classes = {count}"]
    lines += [f"{key} = {destination.named(f'{key}.txt')}" for key in lists]
    lines += [f"names = {root}{name}.names", f"backup = {root or '.'}"]
    texts = {f"{name}.names": _lines(dataset.names)}
    if is_classifier:
        lines += [f"labels = {root}{name}.labels", f"top = {min(5, count)}"]
        texts[f"{name}.labels"] = _lines(class_label(each) for each in dataset.names)
    # last, as its mark says that all of it was made by convert.py
    return {**texts, f"{name}.data": _lines(lines)}


def _lines(items: Iterable[str]) -> str:
    return "".join(f"{item}\n" for item in items)
