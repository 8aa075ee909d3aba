"""SSD's view of an image: zoomed out, then a patch that overlaps some object enough.

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

WHOLE, ANY = 1.0, 0.0  # least IoUs that stand for the whole canvas and for a patch as it comes
USUAL = (0.1, 0.3, 0.5, 0.7, 0.9)
TRIALS = 50
SMALLEST = 0.3  # side of a patch in that of the canvas
LONGEST = 2  # side of a patch in the other one
LARGEST_CANVAS = 100.0  # sides of the image; no object would be left of more


@dataclass(frozen=True)
class SsdCrops:
    """`expand`: the canvas's largest side in that of the image; up to 1 there is no canvas.

    `options`: least IoUs of a patch with some object, one of which an image gets; 1 is no patch
    but the whole canvas.
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
        """Draw the part that is seen of an image of this size with boxes (M, 5).

        Options are tried in random order until one succeeds, as the whole canvas always does. So
        all that can succeed are equally likely: Caffe draws a patch for each, then one of those.
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
        """The image somewhere on a larger one, every second time (ExpandImage of Caffe)."""
        if self.expand <= 1 or random.random() < 0.5:
            return 0, 0, width, height
        ratio = random.uniform(1, self.expand)
        wide, high = int(width * ratio), int(height * ratio)
        left, top = -draw_integer(0, wide - width, random), -draw_integer(0, high - height, random)
        return left, top, left + wide, top + high


def draw_patches(canvas: Rectangle, random: np.random.Generator) -> Rectangles:
    """Up to TRIALS regions inside the canvas (T, 4), without those that are too long."""
    low, high = np.array(canvas[:2]), np.array(canvas[2:])
    sizes, places = random.random((2, TRIALS, 2))
    sides = np.ceil((SMALLEST + (1 - SMALLEST) * sizes) * (high - low)).astype(np.int64)
    corners = low + np.floor(places * (high - low - sides + 1)).astype(np.int64)
    fits = sides.max(1) <= LONGEST * sides.min(1)
    return np.concatenate((corners, corners + sides), 1)[fits]


def shows_center(
    regions: Rectangles, boxes: NDArray[np.float32], width: int, height: int
) -> NDArray[np.bool_]:
    """Mask of the boxes (M, 5) of an image whose centres lie in regions (…, 4): (…, M)"""
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
    """Those patches (T, 4) that overlap some box so much, and show the centre of some."""
    enough = (overlaps(patches, boxes, width, height) >= least).any(1)
    return patches[enough & shows_center(patches, boxes, width, height).any(1)]
