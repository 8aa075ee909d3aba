"""Pictures with boxes, the form in which every format is read, and images that are skipped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.errors import DataError


@dataclass(frozen=True)
class CheckedBoxes:
    """Boxes of one image, with counts of those that were clipped or dropped."""

    rows: NDArray[np.float32]  # (M, 5): class, centre x, y, width, height relative to the image
    clipped: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class Polygon:
    """An outline of one object: class, then (P, 2) points x, y relative to the image."""

    number: int
    points: NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """An image to write; `boxes` is None where its path contains the class."""

    path: str  # inside the data set's folder
    content: Path | bytes  # an image file, or its bytes
    splits: tuple[str, ...]  # "train", "valid"
    boxes: CheckedBoxes | None = None
    polygons: tuple[Polygon, ...] | None = None
    difficult: CheckedBoxes | None = None  # objects that mAP ignores


@dataclass(frozen=True)
class Skipped:
    """An image that can't be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Dataset:
    """A data set to write; `pictures` is read once, while it is written."""

    name: str  # of the .data and the .names file
    names: tuple[str, ...]
    pictures: Iterable[Picture | Skipped]
    total: int  # pictures and skipped ones, for the progress bar
    notes: dict[str, int] = field(default_factory=dict)  # counts known after reading, for the table

    def __post_init__(self) -> None:
        for number, name in enumerate(self.names):
            if not name or name != name.strip() or "\n" in name:
                raise DataError(f"{self.name}: class {number} can't be named {name!r}")


def relative(
    classes: Sequence[int], corners: Sequence[Sequence[float]], width: int, height: int
) -> CheckedBoxes:
    """Boxes of corners x1, y1, x2, y2 in pixels, clipped to the image.

    Boxes with a coordinate that is not finite, or without area inside the image, are dropped.
    """
    xyxy = np.asarray(corners, np.float64).reshape(-1, 4)
    number = np.asarray(classes, np.float64).reshape(-1, 1)
    limits = np.array([width, height, width, height], np.float64)
    finite = np.asarray(np.isfinite(xyxy).all(axis=1))
    inside = np.clip(np.where(finite[:, None], xyxy, 0), 0, limits)
    # half a thousandth of a pixel is rounding, not an overshoot
    moved = (np.abs(inside - xyxy) > 5e-4).any(axis=1)
    low, high = inside[:, :2] / limits[:2], inside[:, 2:] / limits[2:]
    rows = np.hstack([number, (low + high) / 2, high - low]).astype(np.float32)
    good = finite & (rows[:, 3:] > 0).all(axis=1)
    return CheckedBoxes(rows[good], int((moved & good).sum()), int((~good).sum()))
