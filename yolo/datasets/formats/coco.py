"""COCO's JSON of instances: boxes, and polygons where wanted (Lin et al., 2014)."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolo.datasets.formats.common import (
    image_size,
    in_parallel,
    random_split,
    read_json,
    skipped,
    target_paths,
)
from yolo.datasets.formats.options import DatasetFormat, add_split_options
from yolo.datasets.formats.pictures import (
    CheckedBoxes,
    Dataset,
    Picture,
    Polygon,
    Skipped,
    relative,
)
from yolo.errors import DataError


@dataclass(frozen=True)
class CocoSource:
    """Paths of the instances and the images of each split."""

    splits: Mapping[str, Path]  # split → JSON
    folders: tuple[Path, ...]  # searched for images
    polygons: bool = False
    valid_share: float = 0  # of a JSON that is for both splits
    seed: int = 0


@dataclass(frozen=True)
class _Image:
    """An image of one JSON, with its instances."""

    listed: str
    path: Path | None
    splits: tuple[str, ...]
    instances: Sequence[Mapping[str, Any]]


def find_instances(source: Path) -> dict[str, Path]:
    """The JSON files of a folder in COCO's layout, or in that of common exporters.

    A `source` that is a JSON file is used for both splits. Raises DataError where there is none.
    """
    if source.is_file():
        return {"train": source, "valid": source}
    patterns = {
        "train": ("annotations/instances_train*.json", "train/*.json", "train.json"),
        "valid": ("annotations/instances_val*.json", "val*/*.json", "val*.json", "test/*.json"),
    }
    files = {}
    for split, choices in patterns.items():
        paths = next((p for c in choices if (p := sorted(source.glob(c)))), [])
        if len(paths) > 1:
            listed = ", ".join(str(path) for path in paths)
            raise DataError(
                f"{source}: several JSON files for {split}: {listed}; choose one with --{split}"
            )
        if paths:
            files[split] = paths[0]
    if not files:
        raise DataError(f"{source}: no instances_train*.json or instances_val*.json in annotations")
    return {split: files.get(split, next(iter(files.values()))) for split in patterns}


def coco(source: CocoSource, name: str = "coco") -> Dataset:
    """Read the boxes of all instances except crowds, which are only counted.

    Classes are the categories in the order of their ids. Raises DataError for a JSON that isn't
    COCO's.
    """
    contents = {path: _content(path) for path in dict.fromkeys(source.splits.values())}
    categories = _categories(contents)
    order = {number: index for index, number in enumerate(sorted(categories))}
    notes: Counter[str] = Counter()
    images = [
        image
        for path, content in contents.items()
        for image in _images(path, content, source, order, notes)
    ]
    names = tuple(categories[number] for number in sorted(categories))
    pictures = _pictures(images, order, source.polygons)
    return Dataset(name, names, pictures, len(images), dict(notes))


def _content(path: Path) -> Mapping[str, Any]:
    content = read_json(path)
    parts = ("images", "annotations", "categories")
    for part in parts:
        items = content.get(part) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(f"{path}: not COCO's instances: expected lists of {', '.join(parts)}")
    return content


def _categories(contents: Mapping[Path, Mapping[str, Any]]) -> dict[int, str]:
    """Names by id, the same in all files."""
    result: dict[int, str] = {}
    for path, content in contents.items():
        for item in content["categories"]:
            number, name = item.get("id"), item.get("name")
            if not isinstance(number, int) or not isinstance(name, str):
                raise DataError(f"{path}: a category without id or name")
            if result.setdefault(number, name) != name:
                raise DataError(f"{path}: category {number} is {name}, but also {result[number]}")
    if not result:
        raise DataError(f"{next(iter(contents))}: no categories")
    return result


def _images(
    path: Path,
    content: Mapping[str, Any],
    source: CocoSource,
    order: Mapping[int, int],
    notes: Counter[str],
) -> list[_Image]:
    """The images of a file with their instances."""
    listed: dict[int, str] = {}
    for item in content["images"]:
        number, name = item.get("id"), item.get("file_name")
        if not isinstance(number, int) or not isinstance(name, str) or not name:
            raise DataError(f"{path}: an image without id or file_name")
        listed[number] = name
    instances = _instances(path, content, listed, order, notes)
    splits = tuple(split for split, each in source.splits.items() if each == path)
    chosen = dict.fromkeys(map(str, listed), splits)
    if len(splits) > 1:
        chosen = random_split(list(chosen), source.valid_share, source.seed)
    folders = _folders(path, source)
    return [
        _Image(name, _find(name, folders), chosen[str(number)], instances[number])
        for number, name in listed.items()
    ]


def _instances(
    path: Path,
    content: Mapping[str, Any],
    images: Iterable[int],
    order: Mapping[int, int],
    notes: Counter[str],
) -> dict[int, list[Mapping[str, Any]]]:
    """The instances of every image, without crowds."""
    result: dict[int, list[Mapping[str, Any]]] = {number: [] for number in images}
    for item in content["annotations"]:
        category, image = item.get("category_id"), item.get("image_id")
        if not isinstance(category, int) or category not in order:
            raise DataError(f"{path}: an instance of category {category!r}, which isn't listed")
        if item.get("iscrowd"):
            notes["crowds"] += 1
        elif not isinstance(image, int) or image not in result:
            notes["without image"] += 1
        else:
            result[image].append(item)
    return result


def _folders(path: Path, source: CocoSource) -> list[Path]:
    """Folders to search for the images of this JSON, COCO's own first."""
    part = path.stem.removeprefix("instances_")
    roots = (*source.folders, path.parent, path.parent.parent)
    below = (Path(part), Path("images") / part, Path("images"), Path())
    return [root / folder for root in roots for folder in below if (root / folder).is_dir()]


def _find(name: str, folders: Sequence[Path]) -> Path | None:
    return next((path for folder in folders if (path := folder / name).is_file()), None)


def _pictures(
    images: Sequence[_Image], order: Mapping[int, int], polygons: bool
) -> Iterator[Picture | Skipped]:
    targets = target_paths(image.path for image in images if image.path)

    def picture(image: _Image) -> Picture | Skipped:
        """The image with its boxes, or the reason why it can't be used."""
        if image.path is None:
            return Skipped(image.listed, "there is no such image")
        try:
            size = image_size(image.path)
        except DataError as error:
            return skipped(image.path, error)
        boxes = _boxes(image.instances, order, size)
        outlines = _polygons(image.instances, order, size) if polygons else None
        return Picture(targets[image.path], image.path, image.splits, boxes, outlines)

    return in_parallel(picture, images)


def _boxes(
    instances: Sequence[Mapping[str, Any]], order: Mapping[int, int], size: tuple[int, int]
) -> CheckedBoxes:
    corners = [_corners(item.get("bbox")) for item in instances]
    return relative([order[item["category_id"]] for item in instances], corners, *size)


def _corners(box: object) -> list[float]:
    """Corners x1, y1, x2, y2 of a box x, y, width, height; NaN where it is no box."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return [float("nan")] * 4
    x, y, width, height = map(float, box)
    return [x, y, x + width, y + height]


def _polygons(
    instances: Sequence[Mapping[str, Any]], order: Mapping[int, int], size: tuple[int, int]
) -> tuple[Polygon, ...]:
    """Each part of an outline as one polygon, clipped to the image; bit masks have none."""
    result = []
    for item in instances:
        parts = item.get("segmentation")
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, list) or len(part) < 6 or not all(map(_is_number, part)):
                continue
            points = np.array(part[: len(part) // 2 * 2], np.float64).reshape(-1, 2)
            inside = np.clip(points / size, 0, 1).astype(np.float32)
            result.append(Polygon(order[item["category_id"]], inside))
    return tuple(result)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e9


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--train", metavar="JSON", help="default: what SRC has")
    parser.add_argument("--valid", metavar="JSON", help="default: what SRC has")
    parser.add_argument("--images", metavar="DIR", help="another folder to search for images")
    parser.add_argument("--polygons", action="store_true", help="write polygons/, too")
    add_split_options(parser, "one JSON is for both")


def _read_with(args: Namespace) -> Dataset:
    source = Path(args.source)
    paths = {"train": args.train, "valid": args.valid}
    splits = {split: Path(path) for split, path in paths.items() if path}
    if len(splits) < 2:
        splits = {**find_instances(source), **splits}
    folders = tuple(Path(p) for p in (args.images, source) if p)
    return coco(CocoSource(splits, folders, args.polygons, args.valid_share, args.seed), args.name)


FORMAT = DatasetFormat(_add_options, _read_with)
