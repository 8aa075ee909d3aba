"""SSD's crops: the image is zoomed out, then a patch is cut out that overlaps an object enough.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu and Berg: SSD, Single Shot MultiBox Detector (arXiv
1512.02325), section 2.2 (patches) and 3.6 (zooming out).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.cfg import Section
from yolo.datasets.order import draw_integer

Rectangle = tuple[
    int, int, int, int
]  # left, top, right, bottom in pixels of the image; may lie outside
Rectangles = NDArray[np.int64]  # (…, 4)

WHOLE, ANY = 1.0, 0.0  # least IoUs that stand for the whole canvas and for any patch
USUAL = (0.1, 0.3, 0.5, 0.7, 0.9)
TRIALS = 50
SMALLEST = 0.3  # least side of a patch, relative to the canvas
LONGEST = 2  # largest ratio of a patch's sides
LARGEST_CANVAS = 100.0  # relative to the image; on a larger one objects would vanish


@dataclass(frozen=True)
class SsdCrops:
    """Settings of SSD's crops; `expand`: largest side of the canvas relative to the image's.

    Up to 1 there is no canvas. `options`: least IoUs of a patch with some object, of which one is
    drawn for each image; 1 stands for the whole canvas.
    """

    expand: float = 4.0
    options: tuple[float, ...] = (WHOLE, ANY, *USUAL)

    @classmethod
    def of(cls, head: Section) -> SsdCrops:
        """`expand=` and `crops=` of an [ssd] section; crops=1: only the whole canvas.

        Raises CfgError.
        """
        expand, crops = head.number("expand", 4.0), head.numbers("crops", USUAL)
        if expand > LARGEST_CANVAS:
            raise head.error(f"expand={expand:g}: expected at most {LARGEST_CANVAS:g}", "expand")
        if crops == (WHOLE,):
            return cls(expand, crops)
        if not all(0 <= least < WHOLE for least in crops):
            raise head.error(
                f"crops={head.text('crops')}: expected least IoUs from 0 to below 1, "
                "or 1 alone for no crops",
                "crops",
            )
        return cls(expand, (WHOLE, ANY, *crops))

    def draw(
        self, width: int, height: int, boxes: NDArray[np.float32], random: np.random.Generator
    ) -> Rectangle:
        """Draw the visible part of an image of this size with boxes (M, 5).

        Options are tried in random order until one succeeds; the whole canvas always does. So all
        options that can succeed are equally likely, as in Caffe, which draws a patch for each
        option and then chooses one of the patches.
        """
        canvas = self._canvas(width, height, random)
        for least in random.permutation(self.options).tolist():
            if least == WHOLE:
                break
            patches = draw_patches(canvas, random)
            if len(boxes):
                patches = _suitable(patches, boxes, width, height, least)
            if len(patches):
                left, top, right, bottom = patches[0].tolist()
                return left, top, right, bottom
        return canvas

    def _canvas(self, width: int, height: int, random: np.random.Generator) -> Rectangle:
        """A larger canvas around the image for half of the images (ExpandImage of Caffe)."""
        if self.expand <= 1 or random.random() < 0.5:
            return 0, 0, width, height
        ratio = random.uniform(1, self.expand)
        wide, high = int(width * ratio), int(height * ratio)
        left, top = -draw_integer(0, wide - width, random), -draw_integer(0, high - height, random)
        return left, top, left + wide, top + high


def draw_patches(canvas: Rectangle, random: np.random.Generator) -> Rectangles:
    """Draw up to TRIALS regions (T, 4) inside the canvas, without those that are too long."""
    low, high = np.array(canvas[:2]), np.array(canvas[2:])
    sizes, positions = random.random((2, TRIALS, 2))
    sides = np.ceil((SMALLEST + (1 - SMALLEST) * sizes) * (high - low)).astype(np.int64)
    corners = low + np.floor(positions * (high - low - sides + 1)).astype(np.int64)
    fits = sides.max(1) <= LONGEST * sides.min(1)
    return np.concatenate((corners, corners + sides), 1)[fits]


def shows_center(
    regions: Rectangles, boxes: NDArray[np.float32], width: int, height: int
) -> NDArray[np.bool_]:
    """Mask (…, M) of the boxes (M, 5) of an image whose centres lie in regions (…, 4)."""
    centers = boxes[:, 1:3] * np.array([width, height])
    low, high = regions[..., None, :2], regions[..., None, 2:]
    return ((low <= centers) & (centers <= high)).all(-1)


def overlaps(
    regions: Rectangles, boxes: NDArray[np.float32], width: int, height: int
) -> NDArray[np.float64]:
    """IoU of regions (…, 4) with boxes (M, 5) of an image: (…, M)"""
    scale = np.array([width, height])
    middle, size = boxes[:, 1:3] * scale, boxes[:, 3:] * scale
    low, high = regions[..., None, :2], regions[..., None, 2:]
    shared = np.minimum(high, middle + size / 2) - np.maximum(low, middle - size / 2)
    intersection = shared.clip(0).prod(-1)
    return intersection / ((high - low).prod(-1) + size.prod(-1) - intersection)


def _suitable(
    patches: Rectangles, boxes: NDArray[np.float32], width: int, height: int, least: float
) -> Rectangles:
    """The patches (T, 4) whose IoU with a box is `least` or more, and that show a box's centre."""
    enough = (overlaps(patches, boxes, width, height) >= least).any(1)
    return patches[enough & shows_center(patches, boxes, width, height).any(1)]
