"""Pascal VOC: an XML file an image, and ImageSets (Everingham et al., 2010)."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yolo.datasets.formats.common import (
    image_size,
    images_by_stem,
    in_parallel,
    random_split,
    read_names,
    skipped,
    subfolder,
    target_paths,
)
from yolo.datasets.formats.options import DatasetFormat, add_split_options
from yolo.datasets.formats.pictures import CheckedBoxes, Dataset, Picture, Skipped, relative
from yolo.datasets.lists import read_lines
from yolo.errors import DataError
from yolo.files import read_bytes

MOST_BYTES = 10_000_000  # of an annotation
SETS = {"train": (("trainval",), ("train", "val"), ("train",)), "valid": (("test",), ("val",))}


@dataclass(frozen=True)
class VocOptions:
    """Options for reading a VOC folder.

    `offset`: pixels that a box's centre is moved left and up. Darknet's voc_label.py uses 1, as
    VOC counts pixels from 1; 0 keeps the corners as they are.
    """

    train: tuple[str, ...] | None = None  # ImageSets
    valid: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None  # None: all that are found, sorted
    keep_difficult: bool = False  # as truths; else mAP ignores them (voc_label.py drops them)
    offset: float = 1
    valid_share: float = 0  # without ImageSets
    seed: int = 0


@dataclass(frozen=True)
class _Object:
    name: str
    difficult: bool
    corners: tuple[float, ...]  # x1, y1, x2, y2; nan where there is no number


@dataclass
class _Parsed:
    """Objects of all annotations, before any image is read."""

    objects: dict[str, list[_Object]] = field(default_factory=dict)
    difficult: dict[str, list[_Object]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)


def voc(folder: Path, options: VocOptions, name: str = "voc") -> Dataset:
    """Read a folder of Annotations/, JPEGImages/ and ImageSets/Main/ (or annotations/, images/).

    Raises DataError where a folder or an ImageSet is missing.
    """
    annotations = subfolder(folder, "Annotations", "annotations")
    images = images_by_stem(subfolder(folder, "JPEGImages", "images"))
    splits = _splits(folder, images, options)
    parsed = _read(annotations, splits, options)
    names = options.names or tuple(
        sorted({o.name for each in parsed.objects.values() for o in each})
    )
    if not names:
        raise DataError(f"{annotations}: no object in any annotation")
    pictures = _pictures(images, splits, parsed, names, options.offset)
    return Dataset(name, names, pictures, len(splits), dict(parsed.notes))


def _splits(
    folder: Path, images: Mapping[str, Path], options: VocOptions
) -> dict[str, tuple[str, ...]]:
    """The splits of every image, by its name without ending."""
    sets = folder / "ImageSets" / "Main"
    if not sets.is_dir():
        if options.train or options.valid:
            raise DataError(f"{sets}: there is no such folder, so no sets can be chosen")
        return random_split(sorted(images), options.valid_share, options.seed)
    chosen = {"train": options.train, "valid": options.valid}
    result: dict[str, tuple[str, ...]] = {}
    for split, wanted in chosen.items():
        for each in wanted or _default_sets(sets, split):
            for _, line in read_lines(str(sets / f"{each}.txt"), "image set"):
                image = line.split()[0]
                before = result.get(image, ())
                result[image] = before if split in before else (*before, split)
    return result


def _default_sets(sets: Path, split: str) -> tuple[str, ...]:
    """The sets of a split: trainval and test as for Darknet's VOC; without test, train and val."""
    has_test = (sets / "test.txt").exists()
    choices = SETS[split] if has_test or split == "valid" else (("train",), ("trainval",))
    for choice in choices:
        if all((sets / f"{name}.txt").exists() for name in choice):
            return choice
    raise DataError(f"{sets}: has no {' or '.join('+'.join(c) for c in choices)} for {split}")


def _read(
    annotations: Path, images: Sequence[str] | Mapping[str, object], o: VocOptions
) -> _Parsed:
    parsed = _Parsed()
    for image in images:
        path = annotations / f"{image}.xml"
        try:
            objects = _objects(path)
        except DataError as error:
            parsed.skipped.append(skipped(path, error))
            continue
        difficult = [each for each in objects if each.difficult and not o.keep_difficult]
        easy = [each for each in objects if each not in difficult]
        known = [each for each in easy if o.names is None or each.name in o.names]
        parsed.notes["difficult"] += len(difficult)
        parsed.notes["of other classes"] += len(easy) - len(known)
        parsed.objects[image], parsed.difficult[image] = known, difficult
    return parsed


def _objects(path: Path) -> list[_Object]:
    """The objects of one annotation; raises DataError for what isn't one."""
    root = _parse(path)
    if root.tag != "annotation":
        raise DataError(f"{path}: expected <annotation>, found <{root.tag}>")
    result = []
    for item in root.iter("object"):
        name = (item.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{path}: an object without a name")
        difficult = (item.findtext("difficult") or "0").strip() == "1"
        corners = tuple(
            _number(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")
        )
        result.append(_Object(name, difficult, corners))
    return result


def _parse(path: Path) -> ElementTree.Element:
    if path.exists() and path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: too large for an annotation")
    content = read_bytes(path, "annotation", DataError)
    # entities can grow without limit, and an encoding of two bytes could hide them
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content or b"\0" in content:
        raise DataError(f"{path}: declares a document type or entities: not an annotation")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path}: not XML: {error}") from error


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _pictures(
    images: Mapping[str, Path],
    splits: Mapping[str, tuple[str, ...]],
    parsed: _Parsed,
    names: tuple[str, ...],
    offset: float,
) -> Iterator[Picture | Skipped]:
    targets = target_paths(images[image] for image in splits if image in images)

    def picture(image: str) -> Picture | Skipped:
        """The image with its boxes, or the reason why it can't be used."""
        path = images.get(image)
        if path is None:
            return Skipped(image, "there is no image of this name")
        try:
            size = image_size(path)
        except DataError as error:
            return skipped(path, error)
        boxes, difficult = (
            _boxes(each[image], names, offset, size) for each in (parsed.objects, parsed.difficult)
        )
        return Picture(targets[path], path, splits[image], boxes, difficult=difficult)

    yield from parsed.skipped
    yield from in_parallel(picture, parsed.objects)


def _boxes(
    objects: Sequence[_Object], names: tuple[str, ...], offset: float, size: tuple[int, int]
) -> CheckedBoxes:
    """Boxes of the objects that have one of these names."""
    known = [each for each in objects if each.name in names]
    corners = [[value - offset for value in each.corners] for each in known]
    return relative([names.index(each.name) for each in known], corners, *size)


def _add_options(parser: ArgumentParser) -> None:
    default = "trainval and test; where there is no test, train and val"
    parser.add_argument(
        "--train", type=_sets, metavar="SETS", help=f"ImageSets; default: {default}"
    )
    parser.add_argument("--valid", type=_sets, metavar="SETS", help="such as val or val,test")
    parser.add_argument("--names", metavar="FILE", help="classes to keep; default: all, sorted")
    parser.add_argument(
        "--difficult",
        choices=("drop", "keep"),
        default="drop",
        help="objects marked difficult: drop (mAP ignores those of valid) or keep",
    )
    parser.add_argument(
        "--offset",
        type=float,
        default=1,
        help="pixels to move boxes left and up: 1 as Darknet's voc_label.py, 0 for none",
    )
    add_split_options(parser, "there are no ImageSets")


def _sets(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _read_with(args: Namespace) -> Dataset:
    options = VocOptions(
        args.train,
        args.valid,
        read_names(args.names) if args.names else None,
        args.difficult == "keep",
        args.offset,
        args.valid_share,
        args.seed,
    )
    return voc(Path(args.source), options, args.name)


FORMAT = DatasetFormat(_add_options, _read_with)
