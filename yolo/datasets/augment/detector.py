"""A detector's training image: one image varied, two blended, or a mosaic of four."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from yolo.datasets.augment.color import draw_color
from yolo.datasets.augment.crop import Margins, draw_crop, from_corners
from yolo.datasets.augment.settings import MIXUP, MOSAIC, Augmentation, draw_cut
from yolo.datasets.images import Pixels, as_pixels
from yolo.datasets.sample import Boxes, Sample


def detector_sample(
    own: Sample,
    another: Callable[[], Sample],
    settings: Augmentation,
    width: int,
    height: int,
    random: np.random.Generator,
) -> Sample:
    """`own` as uint8 (height, width, C) with boxes, varied as by load_data_detection of data.c.

    Half of the images are mixed with others, which `another` gives.
    """
    if settings.mixing and random.random() < 0.5:
        if settings.mixing == MOSAIC:
            parts = [own, another(), another(), another()]
            image, boxes = _mosaic(parts, settings, width, height, random)
            return replace(own, image=image, boxes=boxes)
        if settings.mixing == MIXUP:
            first, boxes = _single(own, settings, width, height, random)
            second, more = _single(another(), settings, width, height, random)
            mixed = as_pixels(cv2.addWeighted(first, 0.5, second, 0.5, 0))
            return replace(own, image=mixed, boxes=np.concatenate((boxes, more)))
    image, boxes = _single(own, settings, width, height, random)
    return replace(own, image=image, boxes=boxes)


def _single(
    sample: Sample,
    settings: Augmentation,
    width: int,
    height: int,
    random: np.random.Generator,
) -> tuple[Pixels, Boxes]:
    crop = draw_crop(sample.image, sample.boxes, settings, width / height, random)
    color = draw_color(settings, random)
    boxes = crop.boxes(sample.boxes, width, height)
    return color.applied(crop.pixels(sample.image, width, height), boxes, random), boxes


def _mosaic(
    samples: list[Sample],
    settings: Augmentation,
    width: int,
    height: int,
    random: np.random.Generator,
) -> tuple[Pixels, Boxes]:
    """Four images (upper left, upper right, lower left, lower right) around a random point."""
    cut = (draw_cut(width, random), draw_cut(height, random))
    out = np.empty((height, width, samples[0].image.shape[2]), np.uint8)
    shown = []
    for number, sample in enumerate(samples):
        below, right = number >= 2, number % 2 == 1
        crop = draw_crop(sample.image, sample.boxes, settings, width / height, random)
        if random.random() < 0.5:
            crop = crop.into_corner(right, below)
        tile = _tile(crop, cut, right, below, width, height)
        boxes = crop.boxes(sample.boxes, width, height)
        color = draw_color(settings, random)
        part = crop.pixels(sample.image, width, height)[tile.source]
        out[tile.rows, tile.columns] = color.applied(part, tile.inside(boxes), random)
        shown.append(tile.moved(boxes, settings.mosaic_bound))
    return out, np.concatenate(shown)


@dataclass(frozen=True)
class _Tile:
    """A part of the mosaic, and the shift in pixels that moves its image there."""

    rows: slice
    columns: slice
    shift: tuple[int, int]
    width: int
    height: int

    @property
    def source(self) -> tuple[slice, slice]:
        x, y = self.shift
        return (
            slice(self.rows.start - y, self.rows.stop - y),
            slice(self.columns.start - x, self.columns.stop - x),
        )

    def moved(self, boxes: Boxes, bound: bool) -> Boxes:
        """Boxes that show in this part, relative to the mosaic; `bound`: clipped to the part.

        See blend_truth_mosaic of data.c, which without mosaic_bound keeps boxes that don't show.
        """
        low, high = self._corners(boxes)
        part_low, part_high = self._bounds()
        pixel = np.array([1 / self.width, 1 / self.height], np.float32)
        shows = (high.clip(None, part_high) - low.clip(part_low) >= pixel).all(1)
        if bound:
            low, high = low.clip(part_low, part_high), high.clip(part_low, part_high)
        low, high = low[shows].clip(0, 1), high[shows].clip(0, 1)
        return from_corners(boxes[shows, 0], low, high, self.width, self.height)

    def inside(self, boxes: Boxes) -> Boxes:
        """Boxes relative to this part."""
        low, high = self._corners(boxes)
        part_low, part_high = self._bounds()
        low, high = ((c - part_low) / (part_high - part_low) for c in (low, high))
        return np.concatenate((boxes[:, :1], (low + high) / 2, high - low), 1)

    def _corners(self, boxes: Boxes) -> tuple[Boxes, Boxes]:
        shift = np.array([self.shift[0] / self.width, self.shift[1] / self.height], np.float32)
        center, half = boxes[:, 1:3] + shift, boxes[:, 3:] * np.float32(0.5)
        return center - half, center + half

    def _bounds(self) -> tuple[Boxes, Boxes]:
        size = np.array([self.width, self.height], np.float32)
        low = np.array([self.columns.start, self.rows.start], np.float32)
        high = np.array([self.columns.stop, self.rows.stop], np.float32)
        return low / size, high / size


def _tile(
    crop: Margins, cut: tuple[int, int], right: bool, below: bool, width: int, height: int
) -> _Tile:
    wide, high = crop.size
    before, behind = (crop.right, crop.left) if crop.flip else (crop.left, crop.right)
    columns, x = _span(right, cut[0], width, -before * width // wide, -behind * width // wide)
    rows, y = _span(
        below, cut[1], height, -crop.top * height // high, -crop.bottom * height // high
    )
    return _Tile(rows, columns, (x, y), width, height)


def _span(second: bool, cut: int, length: int, before: int, behind: int) -> tuple[slice, int]:
    """The columns (rows) of a mosaic that an image fills, and the shift that moves it there.

    `before`, `behind`: columns (rows) of padding on both sides of the image; as far as possible
    the shift moves them out of the mosaic.
    """
    if second:
        return slice(cut, length), cut - min(cut, max(0, before))
    return slice(0, cut), cut - length + min(length - cut, max(0, behind))
