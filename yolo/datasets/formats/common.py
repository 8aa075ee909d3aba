"""Steps that formats share: finding files, sizes of images, names that don't collide, a split."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from yolo.datasets.formats.pictures import Picture, Skipped
from yolo.datasets.images import read_image
from yolo.datasets.lists import IMAGES, read_lines, read_text
from yolo.errors import DataError

T = TypeVar("T")


def in_parallel(
    picture: Callable[[T], Picture | Skipped], items: Iterable[T]
) -> Iterator[Picture | Skipped]:
    """picture(item) of every item, in order, from threads: decoding releases Python's lock."""
    with ThreadPoolExecutor() as pool:
        yield from pool.map(picture, items)


def subfolder(folder: Path, *names: str) -> Path:
    """The first of these folders that exists; raises DataError."""
    path = next((folder / name for name in names if (folder / name).is_dir()), None)
    if path is None:
        raise DataError(f"{folder}: has no folder {' or '.join(names)}")
    return path


def images_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by their names without ending."""
    return {path.stem: path for path in images_in(folder)}


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, sorted; raises DataError where it can't be read."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: can't read the folder: {error.strerror}") from error
    return [folder / name for name in names if Path(name).suffix.lower() in IMAGES]


def image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image that can be decoded; raises DataError."""
    height, width = read_image(str(path)).shape[:2]
    return width, height


def decode_image(content: bytes, name: str) -> None:
    """Raises DataError, with the name, for what isn't an image."""
    pixels = np.frombuffer(content, np.uint8)
    if not pixels.size or cv2.imdecode(pixels, cv2.IMREAD_COLOR) is None:
        raise DataError(f"{name}: not an image that OpenCV can decode")


def encoded_png(pixels: np.ndarray) -> bytes:
    """PNG of (H, W) grey or (H, W, 3) BGR pixels."""
    coded, content = cv2.imencode(".png", pixels)
    if not coded:
        raise DataError(f"OpenCV can't write an image of {pixels.shape} as PNG")
    return content.tobytes()


def skipped(name: str | Path, error: DataError) -> Skipped:
    """A skipped image with its reason, without the path that the name has already."""
    return Skipped(str(name), str(error).removeprefix(f"{name}: "))


def target_paths(images: Iterable[Path]) -> dict[Path, str]:
    """images/NAME for every file; where two would share a label file, the later gets a number."""
    taken: set[str] = set()
    result: dict[Path, str] = {}
    for path in images:
        if path in result:
            continue
        # lists have a line for each, without blanks around it
        clean = " ".join(path.stem.split()) or "image"
        stem, number = clean, 2
        while stem.casefold() in taken:  # some file systems don't distinguish A from a
            stem, number = f"{clean}-{number}", number + 1
        taken.add(stem.casefold())
        result[path] = f"images/{stem}{path.suffix}"
    return result


def random_split(items: Sequence[str], valid_share: float, seed: int) -> dict[str, tuple[str, ...]]:
    """The splits of every item: a random share is for valid; with 0 all are in both."""
    if not 0 <= valid_share < 1:
        raise DataError(f"--valid-share {valid_share:g}: expected a share in [0, 1)")
    if valid_share == 0:
        return dict.fromkeys(items, ("train", "valid"))
    order = np.random.RandomState(seed).permutation(len(items))
    count = max(1, round(len(items) * valid_share))
    chosen = {items[index] for index in order[:count]}
    return {item: ("valid",) if item in chosen else ("train",) for item in items}


def read_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Class names, one a line; raises DataError."""
    names = tuple(line for _, line in read_lines(str(path), "list of names"))
    if not names:
        raise DataError(f"{path}: holds no names")
    return names


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises DataError, naming the line."""
    try:
        return json.loads(read_text(str(path), "JSON"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg.lower()}") from error
    except RecursionError as error:
        raise DataError(f"{path}: JSON nested too deeply") from error
