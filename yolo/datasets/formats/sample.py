"""A generated data set: real handwritten digits on real photographs, with boxes.

Both come with scikit-learn: 1,797 digits of 8×8 pixels (Alpaydin and Kaynak, UCI, 1998) and two
photographs, china.jpg and flower.jpg.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.datasets.formats.options import DatasetFormat, positive
from yolo.datasets.formats.pictures import Dataset, Picture, relative
from yolo.errors import DataError

SIZE = 160  # of a scene, in pixels
NAME = "digits"
COUNTS = {"train": 600, "valid": 200}
MOST = 5  # digits in a scene
HEIGHTS = (22, 56)  # of a digit's 8 rows, in pixels
VISIBLE = 0.35  # ink above this belongs to the box

Image = NDArray[np.uint8]
Ink = NDArray[np.float32]


@dataclass(frozen=True)
class _Material:
    """Digits of every class (P, 8, 8), 0 to 1, and photographs (H, W, 3)."""

    digits: tuple[NDArray[np.float32], ...]
    photographs: tuple[Image, ...]


def sample(counts: dict[str, int] | None = None, seed: int = 0) -> Dataset:
    """Scenes of 160×160 with 1 to 5 digits; train and valid have no digit in common.

    The same counts and seed give the same bytes. Raises DataError without scikit-learn.
    """
    counts = counts or COUNTS
    # RandomState's numbers are the same in every version of NumPy; Generator's may change
    random = np.random.RandomState(seed)
    material = dict(zip(("train", "valid"), _materials(random), strict=True))
    names = tuple(str(digit) for digit in range(10))
    pictures = (
        picture for split in counts for picture in _scenes(split, counts[split], material, random)
    )
    return Dataset(NAME, names, pictures, sum(counts.values()))


def _materials(random: np.random.RandomState) -> tuple[_Material, _Material]:
    """Material for train and for valid, which gets a quarter of every digit's pictures."""
    try:
        import sklearn.datasets
    except ImportError as error:
        raise DataError("the sample needs scikit-learn: pip install scikit-learn") from error
    source = sklearn.datasets.load_digits()
    folder = Path(sklearn.datasets.__file__).parent / "images"
    photographs = tuple(_photograph(folder / name) for name in ("china.jpg", "flower.jpg"))
    train, valid = [], []
    for digit in range(10):
        pictures = (source.images[source.target == digit] / 16).astype(np.float32)
        order = random.permutation(len(pictures))
        cut = len(order) // 4
        valid.append(pictures[order[:cut]])
        train.append(pictures[order[cut:]])
    return _Material(tuple(train), photographs), _Material(tuple(valid), photographs)


def _photograph(path: Path) -> Image:
    image = cv2.imread(str(path))
    if image is None:
        raise DataError(f"{path}: can't read scikit-learn's photograph")
    return image.astype(np.uint8)


def _scenes(
    split: str, count: int, material: dict[str, _Material], random: np.random.RandomState
) -> Iterator[Picture]:
    for number in range(count):
        image, classes, corners = _scene(material[split], random)
        coded, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])
        assert coded
        boxes = relative(classes, corners, SIZE, SIZE)
        path = f"images/{split}_{number:04}.jpg"
        yield Picture(path, content.tobytes(), (split,), boxes)


def _scene(
    material: _Material, random: np.random.RandomState
) -> tuple[Image, list[int], list[tuple[int, ...]]]:
    """An image (160, 160, 3) in BGR, and class and corners of its digits."""
    image = _background(material.photographs, random)
    taken = np.zeros((SIZE, SIZE), bool)
    classes: list[int] = []
    corners: list[tuple[int, ...]] = []
    wanted = random.randint(1, MOST + 1)
    for _ in range(10 * wanted):
        digit = random.randint(10)
        pictures = material.digits[digit]
        ink = _transformed(pictures[random.randint(len(pictures))], random)
        x1, y1, x2, y2 = box = _extent(ink)
        # boxes may touch, digits hardly
        if taken[y1:y2, x1:x2].mean() > 0.05:
            continue
        taken[y1:y2, x1:x2] = True
        _draw(image, ink, box, random)
        classes.append(digit)
        corners.append(box)
        if len(classes) == wanted:
            break
    return image, classes, corners


def _background(photographs: tuple[Image, ...], random: np.random.RandomState) -> Image:
    """A square of a photograph, 96 to 320 pixels, at times mirrored, its contrast lowered."""
    photograph = photographs[random.randint(len(photographs))]
    side = random.randint(96, 321)
    top = random.randint(photograph.shape[0] - side + 1)
    left = random.randint(photograph.shape[1] - side + 1)
    square = photograph[top : top + side, left : left + side]
    if random.randint(2):
        square = square[:, ::-1]
    square = np.ascontiguousarray(square)
    crop = cv2.resize(square, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    mean, contrast = crop.mean(axis=(0, 1)), random.uniform(0.4, 0.8)
    return np.clip(mean + (crop - mean) * contrast, 0, 255).astype(np.uint8)


def _transformed(picture: NDArray[np.float32], random: np.random.RandomState) -> Ink:
    """A digit's ink (160, 160), 0 to 1: scaled, slightly rotated and sheared, wholly inside."""
    height = random.uniform(*HEIGHTS)
    scale = height / 8
    angle, shear = np.radians(random.uniform(-12, 12)), random.uniform(-0.2, 0.2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * rotation @ np.array([[random.uniform(0.85, 1.15), shear], [0, 1]])
    # the rotated square of 8×8 pixels must fit
    reach = np.abs(matrix).sum(axis=1) * 4
    centre = random.uniform(reach, SIZE - reach)
    affine = np.hstack([matrix, (centre - matrix @ [3.5, 3.5])[:, None]])
    ink = cv2.warpAffine(picture, affine, (SIZE, SIZE), flags=cv2.INTER_CUBIC)
    return np.clip((ink - 0.2) / 0.5, 0, 1).astype(np.float32)


def _extent(ink: Ink) -> tuple[int, int, int, int]:
    """Corners x1, y1, x2, y2 of the visible ink; the last two lie just outside."""
    rows, columns = np.flatnonzero((ink > VISIBLE).any(1)), np.flatnonzero((ink > VISIBLE).any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _draw(
    image: Image, ink: Ink, box: tuple[int, int, int, int], random: np.random.RandomState
) -> None:
    """Draw in a colour that differs from the background by 80 to 160 grey levels."""
    x1, y1, x2, y2 = box
    behind = float(image[y1:y2, x1:x2].mean())
    colour = random.uniform(0, 255, 3)
    away = random.uniform(80, 160) * (1 if behind < 128 else -1)
    colour = np.clip(colour - colour.mean() + np.clip(behind + away, 0, 255), 0, 255)
    # faint ink reaches a little beyond the box
    around = slice(max(y1 - 4, 0), y2 + 4), slice(max(x1 - 4, 0), x2 + 4)
    opacity = ink[around][..., None] * random.uniform(0.85, 1)
    image[around] = image[around] * (1 - opacity) + colour * opacity


def _add_options(parser: ArgumentParser) -> None:
    train, valid = COUNTS["train"], COUNTS["valid"]
    parser.add_argument(
        "--train", type=positive, default=train, metavar="N", help="scenes to train on"
    )
    parser.add_argument("--valid", type=positive, default=valid, metavar="N", help="to validate on")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other scenes")


def _read_with(args: Namespace) -> Dataset:
    return sample({"train": args.train, "valid": args.valid}, args.seed)


FORMAT = DatasetFormat(_add_options, _read_with, made=NAME)
