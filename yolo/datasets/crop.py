"""Jitter, resize, flip: which part of an image a detector sees, and where its boxes are then."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from yolo.datasets.augment import Augmentation
from yolo.datasets.images import Pixels, as_pixels
from yolo.datasets.sample import Boxes


@dataclass(frozen=True)
class Crop:
    """Margins in pixels that are cut off an image; negative ones are added."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    flip: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what is left."""
        return self.width - self.left - self.right, self.height - self.top - self.bottom

    def pixels(self, image: Pixels, width: int, height: int) -> Pixels:
        """(H, W, C) → (height, width, C); what lies outside has the mean colour."""
        out = cv2.resize(self._cut(image), (width, height))
        if self.flip:
            out = cv2.flip(out, 1)
        return as_pixels(out)

    def boxes(self, boxes: Boxes, width: int, height: int) -> Boxes:
        """Boxes of the image → of the crop, clipped; those below one pixel are dropped.

        `width`, `height`: of the network's input (correct_boxes, fill_truth_detection of data.c).
        """
        scale = np.array([self.width, self.height], np.float32) / self.size
        offset = np.array([self.left, self.top], np.float32) / self.size
        low = (boxes[:, 1:3] - boxes[:, 3:] / 2) * scale - offset
        high = (boxes[:, 1:3] + boxes[:, 3:] / 2) * scale - offset
        if self.flip:
            low[:, 0], high[:, 0] = 1 - high[:, 0], 1 - low[:, 0]
        return from_corners(boxes[:, 0], low.clip(0, 1), high.clip(0, 1), width, height)

    def into_corner(self, right: bool, below: bool) -> Crop:
        """What is cut off or added goes to one side each, so that a mosaic shows most of the image.

        `right`, `below`: where the image stands in the mosaic.
        """
        across, down = self.left + self.right, self.top + self.bottom
        left, top = (0 if right == self.flip else across), (down if below else 0)
        return replace(self, left=left, right=across - left, top=top, bottom=down - top)

    def _cut(self, image: Pixels) -> Pixels:
        left, top = max(0, self.left), max(0, self.top)
        right, bottom = self.width - max(0, self.right), self.height - max(0, self.bottom)
        part = image[top:bottom, left:right]
        above, below, before, behind = (
            max(0, -margin) for margin in (self.top, self.bottom, self.left, self.right)
        )
        if not (above or below or before or behind):
            return part
        # of every eighth pixel: the mean of all takes longer than the rest of the crop
        mean = image[::8, ::8].mean((0, 1)).tolist()
        wider = cv2.copyMakeBorder(
            part, above, below, before, behind, cv2.BORDER_CONSTANT, value=mean
        )
        return as_pixels(wider)


def from_corners(classes: Boxes, low: Boxes, high: Boxes, width: int, height: int) -> Boxes:
    """(M,), (M, 2), (M, 2) → (M, 5) without boxes smaller than a pixel of the network's input."""
    size = high - low
    keep = (size >= np.array([1 / width, 1 / height], np.float32)).all(1)
    boxes = np.concatenate((classes[:, None], (low + high) / 2, size), 1)
    return boxes[keep].astype(np.float32)


def draw_crop(
    image: Pixels, settings: Augmentation, aspect: float, random: np.random.Generator
) -> Crop:
    """What load_data_detection of data.c draws; `aspect`: width / height of the network's input."""
    height, width = image.shape[:2]
    flip = settings.flip and random.random() < 0.5
    left, right = _margins(width, settings, random.random(2), zoom := random.random(2))
    top, bottom = _margins(height, settings, random.random(2), zoom)
    if settings.letter_box:
        add_width = int(max(0.0, height * aspect - width) / 2)
        add_height = int(max(0.0, width / aspect - height) / 2)
        left, right = left - add_width, right - add_width
        top, bottom = top - add_height, bottom - add_height
    crop = Crop(width, height, left, right, top, bottom, flip)
    if min(*crop.size, width - left, height - top, width - right, height - bottom) <= 0:
        return Crop(width, height, 0, 0, 0, 0, flip)
    return crop


def _margins(
    length: int, settings: Augmentation, jitter: np.ndarray, zoom: np.ndarray
) -> tuple[int, int]:
    """Of two opposite sides: jitter moves them, resize scales around the middle."""
    most = int(length * settings.jitter)
    down, up = min(settings.resize, 1 / settings.resize), max(settings.resize, 1 / settings.resize)
    wider = int(length * (1 - 1 / down) / 2)
    closer = int(length * (1 - 1 / up) / 2) if settings.resize >= 1 else 0
    moves = (2 * jitter - 1) * most
    scales = wider + zoom * (closer - wider)
    return int(moves[0]) + int(scales[0]), int(moves[1]) + int(scales[1])
