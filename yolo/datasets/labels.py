"""The boxes of an image, from the text file that belongs to it."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.errors import DataError

# replacements of Darknet (replace_image_to_label of utils.c) …
DARKNET = (
    ("/images/train2017/", "/labels/train2017/"),
    ("/images/val2017/", "/labels/val2017/"),
    ("/JPEGImages/", "/labels/"),
    ("/images/train2014/", "/labels/train2014/"),
    ("/images/val2014/", "/labels/val2014/"),
)
# … and that of the Ultralytics tools: the last folder of that name
IMAGE_FOLDER = re.compile(r"(.*(?:^|/))(?:images|JPEGImages)/", re.DOTALL)
COLUMNS = ("class", "x", "y", "width", "height")
LARGEST = float(np.finfo(np.float32).max)
OVERSHOOT = 1e-4  # of the image; less than that is rounding by the tool that wrote the file


@dataclass(frozen=True)
class Labels:
    """Boxes float32 (M, 5): class, centre x, y, width, height relative to the image."""

    boxes: NDArray[np.float32]
    clipped: int = 0
    dropped: int = 0
    missing: bool = False


@dataclass(frozen=True)
class Problems:
    """Boxes that overshot their image, boxes without area, images without a label file."""

    clipped: int = 0
    dropped: int = 0
    missing: int = 0

    def __add__(self, other: "Problems") -> "Problems":
        return Problems(
            self.clipped + other.clipped,
            self.dropped + other.dropped,
            self.missing + other.missing,
        )

    @classmethod
    def of(cls, labels: Labels) -> "Problems":
        return cls(labels.clipped, labels.dropped, int(labels.missing))


def check_labels(images: Sequence[str]) -> None:
    """Raises DataError where no image has a label file: the files must be elsewhere then."""
    if not any(os.path.exists(label_path(image)) for image in images):
        raise DataError(
            f"none of {len(images)} images has a label file; that of {images[0]} should be "
            f"{label_path(images[0])}"
        )


def label_path(image: str) -> str:
    """The label file of an image: the first that exists, or else where Darknet looks for it.

    Darknet's place first, then beside the image, then in labels/ for images/ and JPEGImages/.
    """
    text = os.path.splitext(image)[0] + ".txt"
    paths = [_as_darknet(text), text, IMAGE_FOLDER.sub(r"\1labels/", text, count=1)]
    return next((path for path in paths if os.path.isfile(path)), paths[0])


def read_labels(image: str, classes: int, *, clip: bool = True) -> Labels:
    """The boxes of an image; an image without label file has none.

    With `clip` boxes are cut at the edges of the image and those without area are dropped, both
    counted; else they stay unchanged, as Darknet's `detector map` reads them (read_boxes of
    data.c). Raises DataError, naming file and line, for a line that isn't
    `class x y width height` or has a class out of range.
    """
    path = label_path(image)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        return Labels(np.zeros((0, 5), np.float32), missing=True)
    except OSError as error:
        raise DataError(f"{path}: can't read the labels: {error.strerror or error}") from error
    rows = [
        _row(line, path, number, classes) for number, line in enumerate(lines, 1) if line.strip()
    ]
    boxes = np.array(rows, np.float32).reshape(-1, 5)
    return _clipped(boxes) if clip else Labels(boxes)


def _as_darknet(text: str) -> str:
    # a relative path may begin with the folder itself
    text = "/" + text
    for images, labels in DARKNET:
        text = text.replace(images, labels, 1)
    return text[1:]


def _row(line: str, path: str, number: int, classes: int) -> tuple[float, ...]:
    cells = line.split()
    if len(cells) != len(COLUMNS):
        raise DataError(
            f"{path}:{number}: {len(cells)} columns, expected 5: class x y width height"
        )
    values = tuple(_number(cell) for cell in cells)
    for name, value, cell in zip(COLUMNS, values, cells, strict=True):
        if not math.isfinite(value):
            raise DataError(f"{path}:{number}: {name} {cell[:40]!r} is not a finite number")
    if not cells[0].lstrip("+-").isdecimal():
        raise DataError(f"{path}:{number}: class {cells[0][:40]!r} is not an integer")
    if not 0 <= values[0] < classes:
        raise DataError(f"{path}:{number}: class {cells[0][:40]}, but there are {classes} classes")
    return values


def _number(cell: str) -> float:
    """The number in a cell; NaN for anything that doesn't fit into float32."""
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if abs(value) < LARGEST else math.nan


def _clipped(boxes: NDArray[np.float32]) -> Labels:
    """Boxes clipped to [0, 1]; those that lie inside already stay bit for bit."""
    low = boxes[:, 1:3] - boxes[:, 3:] / 2
    high = boxes[:, 1:3] + boxes[:, 3:] / 2
    over = ((low < 0) | (high > 1)).any(1)
    inside_low, inside_high = low.clip(0, 1), high.clip(0, 1)
    keep = (boxes[:, 3:] > 0).all(1) & (inside_high > inside_low).all(1)
    counted = ((low < -OVERSHOOT) | (high > 1 + OVERSHOOT)).any(1) & keep
    clipped = boxes.copy()
    clipped[over, 1:3] = ((inside_low + inside_high) / 2)[over]
    clipped[over, 3:] = (inside_high - inside_low)[over]
    return Labels(clipped[keep], int(counted.sum()), int((~keep).sum()))
