"""Jitter, resize, flip: the part of an image that a detector sees, and its boxes in there.

SSD's patches replace jitter and resize where the head is [ssd].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from yolo.datasets.augment.settings import Augmentation
from yolo.datasets.augment.ssd_crop import SsdCrops, shows_center
from yolo.datasets.images import Pixels, as_pixels
from yolo.datasets.sample import Boxes

LONGEST_WARP = 2**15 - 2  # pixels of a side that cv2.warpAffine takes


@dataclass(frozen=True)
class Margins:
    """Margins in pixels that are cut off an image; negative ones are added.

    `by_center`: SSD's rule, boxes whose centres are cut off are dropped.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    flip: bool = False
    by_center: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is left."""
        return self.width - self.left - self.right, self.height - self.top - self.bottom

    @property
    def shows_image(self) -> bool:
        """True where a part of the image is left, and not only padding."""
        across = min(self.width - self.left, self.width - self.right)
        down = min(self.height - self.top, self.height - self.bottom)
        return min(*self.size, across, down) > 0

    def pixels(self, image: Pixels, width: int, height: int) -> Pixels:
        """(H, W, C) → (height, width, C); what lies outside has the mean colour."""
        padded = min(self.left, self.right, self.top, self.bottom) < 0
        if self.by_center and padded and max(image.shape) <= LONGEST_WARP:
            out = self._warped(image, width, height)
        else:
            out = as_pixels(cv2.resize(self._cut(image), (width, height)))
        return as_pixels(cv2.flip(out, 1)) if self.flip else out

    def boxes(self, boxes: Boxes, width: int, height: int) -> Boxes:
        """Boxes of the image → of the crop, clipped; those below one pixel are dropped.

        `width`, `height`: of the network's input (correct_boxes, fill_truth_detection of data.c).
        """
        if self.by_center:
            region = self.left, self.top, self.width - self.right, self.height - self.bottom
            boxes = boxes[shows_center(np.array(region), boxes, self.width, self.height)]
        scale = np.array([self.width, self.height], np.float32) / self.size
        offset = np.array([self.left, self.top], np.float32) / self.size
        low = (boxes[:, 1:3] - boxes[:, 3:] / 2) * scale - offset
        high = (boxes[:, 1:3] + boxes[:, 3:] / 2) * scale - offset
        if self.flip:
            low[:, 0], high[:, 0] = 1 - high[:, 0], 1 - low[:, 0]
        return from_corners(boxes[:, 0], low.clip(0, 1), high.clip(0, 1), width, height)

    def into_corner(self, right: bool, below: bool) -> Margins:
        """Cut off or add on one side each, so that a mosaic shows most of the image.

        `right`, `below`: the image's quarter of the mosaic.
        """
        across, down = self.left + self.right, self.top + self.bottom
        left, top = (0 if right == self.flip else across), (down if below else 0)
        return replace(self, left=left, right=across - left, top=top, bottom=down - top)

    def letterboxed(self, width: int, height: int, aspect: float) -> Margins:
        """Wider by what `width` × `height` lacks to have this aspect, or higher."""
        across = int(max(0.0, height * aspect - width) / 2)
        down = int(max(0.0, width / aspect - height) / 2)
        return replace(
            self,
            left=self.left - across,
            right=self.right - across,
            top=self.top - down,
            bottom=self.bottom - down,
        )

    def _cut(self, image: Pixels) -> Pixels:
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = self.width - max(0, self.right), self.height - max(0, self.bottom)
        part = image[top:bottom, left:right]
        above, below, before, behind = (
            max(0, -margin) for margin in (self.top, self.bottom, self.left, self.right)
        )
        if not (above or below or before or behind):
            return part
        wider = cv2.copyMakeBorder(
            part, above, below, before, behind, cv2.BORDER_CONSTANT, value=_mean(image)
        )
        return as_pixels(wider)

    def _warped(self, image: Pixels, width: int, height: int) -> Pixels:
        """Cut and resized in one step: the padded canvas could be 16 times the image."""
        x, y = self.size[0] / width, self.size[1] / height
        matrix = np.array([[x, 0, (x - 1) / 2 + self.left], [0, y, (y - 1) / 2 + self.top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        out = cv2.warpAffine(
            image,
            matrix,
            (width, height),
            flags=flags,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=_mean(image),
        )
        return as_pixels(out)


def from_corners(classes: Boxes, low: Boxes, high: Boxes, width: int, height: int) -> Boxes:
    """Classes (M,), corners (M, 2) → boxes (≤ M, 5), without those below a pixel of the input."""
    size = high - low
    keep = (size >= np.array([1 / width, 1 / height], np.float32)).all(1)
    boxes = np.concatenate((classes[:, None], (low + high) / 2, size), 1)
    return boxes[keep].astype(np.float32)


def _mean(image: Pixels) -> list[float]:
    """The colour of padding."""
    # of every eighth pixel: the mean of all takes longer than the rest of the crop
    return image[::8, ::8].mean((0, 1)).tolist()


def draw_crop(
    image: Pixels,
    boxes: Boxes,
    settings: Augmentation,
    aspect: float,
    random: np.random.Generator,
) -> Margins:
    """Draw a crop as load_data_detection of data.c does; with an [ssd] head, as SsdCrops does.

    `aspect`: width / height of the network's input.
    """
    height, width = image.shape[:2]
    flip = settings.flip and random.random() < 0.5
    if settings.ssd is None:
        crop, seen = _jittered(width, height, settings, random), (width, height)
    else:
        crop = _patch(width, height, boxes, settings.ssd, random)
        seen = crop.size
    if settings.letter_box:
        crop = crop.letterboxed(*seen, aspect)
    uncropped = Margins(width, height, 0, 0, 0, 0, flip)
    return replace(crop, flip=flip) if crop.shows_image else uncropped


def _jittered(
    width: int, height: int, settings: Augmentation, random: np.random.Generator
) -> Margins:
    left, right = _margins(width, settings, random.random(2), zoom := random.random(2))
    top, bottom = _margins(height, settings, random.random(2), zoom)
    return Margins(width, height, left, right, top, bottom)


def _patch(
    width: int, height: int, boxes: Boxes, ssd: SsdCrops, random: np.random.Generator
) -> Margins:
    left, top, right, bottom = ssd.draw(width, height, boxes, random)
    return Margins(width, height, left, width - right, top, height - bottom, by_center=True)


def _margins(
    length: int, settings: Augmentation, jitter: np.ndarray, zoom: np.ndarray
) -> tuple[int, int]:
    """Margins of two opposite sides: jitter moves each, resize scales around the middle."""
    most = int(length * settings.jitter)
    down, up = min(settings.resize, 1 / settings.resize), max(settings.resize, 1 / settings.resize)
    wider = int(length * (1 - 1 / down) / 2)
    closer = int(length * (1 - 1 / up) / 2) if settings.resize >= 1 else 0
    moves = (2 * jitter - 1) * most
    scales = wider + zoom * (closer - wider)
    return int(moves[0]) + int(scales[0]), int(moves[1]) + int(scales[1])
