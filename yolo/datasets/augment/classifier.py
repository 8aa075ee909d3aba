"""A classifier's training image: a rotated, stretched crop, or several of them mixed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.datasets.augment.color import between, draw_hsv, draw_scale
from yolo.datasets.augment.settings import (
    CUTMIX,
    CUTMIX_OR_MOSAIC,
    MIXUP,
    MOSAIC,
    Augmentation,
    draw_cut,
)
from yolo.datasets.images import Pixels, as_pixels
from yolo.datasets.order import draw_integer
from yolo.datasets.sample import Sample

CUT = (0.3, 0.8)  # of width and height that CutMix takes from the other image
HALF = np.float32(0.5)
BLURRED = 0.25  # share of images, where [net] asks for blur
KERNEL = 15  # of blur=1
View = tuple[float, float, float, float, float]  # angle, scale, aspect, x, y of view_matrix
AS_IT_IS: View = (0, 1, 1, 0, 0)


def classifier_sample(
    own: Sample,
    another: Callable[[], Sample],
    settings: Augmentation,
    width: int,
    height: int,
    random: np.random.Generator,
) -> Sample:
    """`own` as uint8 (height, width, C) with its labels, varied as by load_data_augment (data.c).

    Half of the images are mixed with others, which `another` gives.
    """

    def single(sample: Sample) -> Sample:
        return sample.showing(_single(sample.image, settings, width, height, random))

    sample = single(own)
    if settings.mixing and random.random() < 0.5:
        mixing = settings.mixing
        if mixing == CUTMIX_OR_MOSAIC:
            mixing = draw_integer(CUTMIX, MOSAIC, random)
        if mixing == MIXUP:
            sample = _mixup(sample, single(another()))
        elif mixing == CUTMIX:
            sample = _cutmix(sample, single(another()), random)
        else:
            sample = _mosaic(sample, [single(another()) for _ in range(3)], random)
    if settings.blur and random.random() < BLURRED:
        kernel = KERNEL if settings.blur == 1 else settings.blur // 2 * 2 + 1
        blurred = cv2.GaussianBlur(sample.image, (kernel, kernel), 0)
        sample = sample.showing(as_pixels(blurred))
    return sample


def _single(
    image: Pixels,
    settings: Augmentation,
    width: int,
    height: int,
    random: np.random.Generator,
) -> Pixels:
    size = max(width, height)
    view = _view(image, size, settings, random)
    if settings.flip and random.random() < 0.5:
        view = as_pixels(cv2.flip(view, 1))
    view = draw_hsv(settings, random).distorted(view)
    return view if width == height else as_pixels(cv2.resize(view, (width, height)))


def _view(image: Pixels, size: int, settings: Augmentation, random: np.random.Generator) -> Pixels:
    height, width = image.shape[:2]
    numbers = draw_view(width, height, size, settings, random)
    if (width, height, *numbers) == (size, size, *AS_IT_IS):
        return image
    matrix = view_matrix(width, height, size, *numbers)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return as_pixels(cv2.warpAffine(image, matrix, (size, size), flags=flags))


def draw_view(
    width: int, height: int, size: int, settings: Augmentation, random: np.random.Generator
) -> View:
    """Draw the numbers of view_matrix as random_augment_image of image.c does."""
    aspect = draw_scale(settings.aspect, random)
    side = draw_integer(settings.min_crop, settings.max_crop, random)
    scale = side / (height if height < width * aspect else width * aspect)
    drawn = random.random(3).tolist()
    angle = math.radians(between(-1, 1, drawn[0]) * settings.angle)
    free_x, free_y = max(0, width * scale / aspect - size) / 2, max(0, height * scale - size) / 2
    x, y = between(-free_x, free_x, drawn[1]), between(-free_y, free_y, drawn[2])
    return angle, scale, aspect, x, y


def view_matrix(
    width: int,
    height: int,
    size: int,
    angle: float,
    scale: float,
    aspect: float,
    x: float,
    y: float,
) -> NDArray[np.float64]:
    """(2, 3): pixel of a view of size × size → of the image (rotate_crop_image of image.c).

    `angle` in radians; x, y: how far the view's middle is from the image's, in pixels of the view.
    """
    across, down = math.cos(angle) / scale, math.sin(angle) / scale
    right, below = x - size / 2, y - size / 2
    return np.array(
        (
            (across * aspect, -down, across * aspect * right - down * below + width / 2),
            (down * aspect, across, down * aspect * right + across * below + height / 2),
        )
    )


def _mixup(sample: Sample, other: Sample) -> Sample:
    image = as_pixels(cv2.addWeighted(sample.image, 0.5, other.image, 0.5, 0))
    return replace(sample, image=image, labels=(sample.labels + other.labels) * HALF)


def _cutmix(sample: Sample, other: Sample, random: np.random.Generator) -> Sample:
    """A part of `sample` is taken from `other`; labels mix in proportion to the areas."""
    rows, columns = (_cut_out(length, random) for length in sample.image.shape[:2])
    image = sample.image.copy()
    image[rows, columns] = other.image[rows, columns]
    share = np.float32(image[rows, columns].size / image.size)
    return replace(
        sample, image=image, labels=sample.labels + (other.labels - sample.labels) * share
    )


def _cut_out(length: int, random: np.random.Generator) -> slice:
    low, high = (int(length * share) for share in CUT)
    size = draw_integer(low, high, random)
    start = draw_integer(0, length - size, random)
    return slice(start, start + size)


def _mosaic(sample: Sample, others: list[Sample], random: np.random.Generator) -> Sample:
    """Four quarters, one from each image, around a random point; labels mix by area."""
    height, width = sample.image.shape[:2]
    x, y = draw_cut(width, random), draw_cut(height, random)
    image, labels = sample.image.copy(), sample.labels * np.float32(x * y / (width * height))
    columns, rows = (slice(0, x), slice(x, width)), (slice(0, y), slice(y, height))
    for number, other in enumerate(others, 1):
        below, right = divmod(number, 2)
        part = image[rows[below], columns[right]]
        part[...] = other.image[rows[below], columns[right]]
        labels = labels + other.labels * np.float32(part.size / image.size)
    return replace(sample, image=image, labels=labels)
