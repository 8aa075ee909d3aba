"""The Oxford hand data set: .mat files with the four corners of every hand.

Mittal, Zisserman, Torr: Hand detection using multiple proposals, BMVC 2011.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yolo.datasets.formats.common import image_size, images_in, in_parallel, skipped, target_paths
from yolo.datasets.formats.options import DatasetFormat
from yolo.datasets.formats.pictures import CheckedBoxes, Dataset, Picture, Skipped, relative
from yolo.errors import DataError

CORNERS = ("a", "b", "c", "d")  # of a rotated rectangle, each y, x in pixels
VALID = ("test", "validation")


def hands(folder: Path, valid: str = "test", name: str = "hands") -> Dataset:
    """The official split: training_dataset is train, test_dataset (or validation_dataset) valid.

    A hand's box is the smallest upright one around its corners. Raises DataError where the folder
    doesn't have PART_dataset/PART_data/images and annotations, or scipy is missing.
    """
    _loader()
    images = [
        (path, split)
        for split, part in (("train", "training"), ("valid", valid))
        for path in images_in(_part(folder, part) / "images")
    ]
    return Dataset(name, ("hand",), _pictures(images), len(images))


def _part(folder: Path, part: str) -> Path:
    below = Path(f"{part}_dataset") / f"{part}_data"
    folders = [folder / below, folder / "hand_dataset" / below]
    for each in folders:
        if (each / "images").is_dir() and (each / "annotations").is_dir():
            return each
    raise DataError(f"{folders[0]}: has no folders images/ and annotations/")


def _pictures(images: list[tuple[Path, str]]) -> Iterator[Picture | Skipped]:
    targets = target_paths(path for path, _ in images)

    def picture(image: tuple[Path, str]) -> Picture | Skipped:
        path, split = image
        annotation = path.parent.parent / "annotations" / f"{path.stem}.mat"
        try:
            boxes = hand_boxes(annotation, image_size(path))
        except DataError as error:
            return skipped(path, error)
        return Picture(targets[path], path, (split,), boxes)

    return in_parallel(picture, images)


def hand_boxes(annotation: Path, size: tuple[int, int]) -> CheckedBoxes:
    """Upright boxes of an image of this width and height; raises DataError."""
    corners = _corners(annotation)
    y, x = corners[..., 0], corners[..., 1]
    upright = np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)
    return relative([0] * len(upright), upright.tolist(), *size)


def _corners(annotation: Path) -> NDArray[np.float64]:
    """(M, 4, 2): boxes{1, k}.a to .d, as y, x."""
    if not annotation.is_file():
        raise DataError(f"there is no {annotation}")
    try:
        boxes = _loader()(annotation)["boxes"]
        # a cell array of 1×1 structs
        items = [np.asarray(item).reshape(-1)[0] for item in np.asarray(boxes).reshape(-1)]
        points = [
            [np.asarray(item[corner], np.float64).reshape(-1)[:2] for corner in CORNERS]
            for item in items
        ]
        return np.array(points, np.float64).reshape(len(items), 4, 2)
    except Exception as error:  # loadmat raises all kinds for a broken file
        raise DataError(f"{annotation}: not the corners of hands: {error}") from error


def _loader():  # type: ignore[no-untyped-def]
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError("reading .mat files needs scipy: pip install scipy") from error
    return loadmat


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--valid", choices=VALID, default="test", help="the part for valid.txt")


def _read_with(args: Namespace) -> Dataset:
    return hands(Path(args.source), args.valid, args.name)


FORMAT = DatasetFormat(_add_options, _read_with)
