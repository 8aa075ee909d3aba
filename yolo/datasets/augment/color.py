"""Hue, saturation, exposure, blur and noise (image_data_augmentation of image_opencv.cpp)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.datasets.augment.settings import Augmentation
from yolo.datasets.images import Pixels, as_pixels
from yolo.datasets.sample import Boxes

LEVELS = np.arange(256, dtype=np.float32)
HUES = 180  # of OpenCV's HSV with 8 bits
BACKGROUND, SMALLEST_PART = 17, 8  # kernel of a blurred background; blur at most of an object


@dataclass(frozen=True)
class Color:
    """A change of colours: `hue` is added, 1 is a full circle; `saturation`, `exposure`: factors.

    `blur`: size of the kernel, 0 for none; with `sharp_objects` the boxes aren't blurred.
    """

    hue: float
    saturation: float
    exposure: float
    blur: int = 0
    sharp_objects: bool = False
    noise: int = 0

    def distorted(self, image: Pixels) -> Pixels:
        """Image uint8 (H, W, C) with changed hue, saturation and exposure."""
        grey = image.shape[2] == 1
        if self.exposure == 1 and (grey or (self.hue, self.saturation) == (0, 1)):
            return image
        exposure = _table(LEVELS * self.exposure)
        if grey:
            return as_pixels(cv2.LUT(image, exposure))
        hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
        shifted = (LEVELS + round((HUES - 1) * self.hue)) % HUES
        planes = (
            cv2.LUT(hue, _table(shifted)),
            cv2.LUT(saturation, _table(LEVELS * self.saturation)),
            cv2.LUT(value, exposure),
        )
        return as_pixels(cv2.cvtColor(cv2.merge(planes), cv2.COLOR_HSV2RGB))

    def blurred(self, image: Pixels, boxes: Boxes) -> Pixels:
        """Image uint8 (H, W, C), blurred; small objects limit the blur. Boxes are relative."""
        height, width = image.shape[:2]
        kernel = self.blur
        if not kernel:
            return image
        if len(boxes) and not self.sharp_objects:
            smallest = int((boxes[:, 3:] * (width, height)).min())
            kernel = min(kernel, smallest // SMALLEST_PART)
        if kernel < 2:
            return image
        out = as_pixels(cv2.GaussianBlur(image, (kernel // 2 * 2 + 1,) * 2, 0))
        for rows, columns in _inside(boxes, width, height) if self.sharp_objects else ():
            out[rows, columns] = image[rows, columns]
        return out

    def noisy(self, image: Pixels, random: np.random.Generator) -> Pixels:
        """Image uint8 (H, W, C) with normal noise of standard deviation `noise`."""
        if not self.noise:
            return image
        values = random.standard_normal(image.shape, np.float32)
        return np.rint(image + values * self.noise).clip(0, 255).astype(np.uint8)

    def applied(self, image: Pixels, boxes: Boxes, random: np.random.Generator) -> Pixels:
        """Image with all changes: colours, then blur, then noise."""
        return self.noisy(self.blurred(self.distorted(image), boxes), random)


def draw_color(settings: Augmentation, random: np.random.Generator) -> Color:
    """Draw the colours of an image as load_data_detection of data.c does."""
    color = draw_hsv(settings, random)
    blur, sharp = 0, False
    if settings.blur:
        kind = int(random.integers(3))
        sharp = kind == 1 or (kind == 2 and settings.blur == 1)
        blur = (0, BACKGROUND, BACKGROUND if settings.blur == 1 else settings.blur)[kind]
    noise = settings.noise if settings.noise and random.random() < 0.5 else 0
    return replace(color, blur=blur, sharp_objects=sharp, noise=noise)


def draw_hsv(settings: Augmentation, random: np.random.Generator) -> Color:
    """Hue, saturation and exposure alone."""
    drawn = random.random(5).tolist()
    return Color(
        between(-settings.hue, settings.hue, drawn[0]),
        scale_of(settings.saturation, *drawn[1:3]),
        scale_of(settings.exposure, *drawn[3:]),
    )


def draw_scale(largest: float, random: np.random.Generator) -> float:
    """Draw a factor between 1 and `largest`, or its inverse (rand_scale of utils.c)."""
    return scale_of(largest, *random.random(2).tolist())


def scale_of(largest: float, first: float, second: float) -> float:
    """The factor of draw_scale, from two random numbers in [0, 1)."""
    scale = between(min(1.0, largest), max(1.0, largest), first)
    return scale if second < 0.5 else 1 / max(scale, 1e-3)


def between(low: float, high: float, drawn: float) -> float:
    """A number in [low, high) from one in [0, 1), as Generator.uniform computes it."""
    return low + (high - low) * drawn


def _table(values: NDArray[np.float32]) -> Pixels:
    """A lookup table of values that aren't negative."""
    return np.rint(np.minimum(values, 255)).astype(np.uint8)


def _inside(boxes: Boxes, width: int, height: int) -> list[tuple[slice, slice]]:
    low = ((boxes[:, 1:3] - boxes[:, 3:] / 2) * (width, height)).astype(int).clip(0)
    high = np.ceil((boxes[:, 1:3] + boxes[:, 3:] / 2) * (width, height)).astype(int).clip(0)
    return [(slice(y, v), slice(x, u)) for (x, y), (u, v) in zip(low, high, strict=True)]
