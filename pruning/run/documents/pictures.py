"""The user's own pictures, with what the original and the cut network find in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pruning.calibration.images import DATA, own_pictures
from pruning.session import Inputs
from yolo.boxes import iou
from yolo.datasets import sources
from yolo.datasets.data import SPLITS
from yolo.datasets.images import Pixels
from yolo.detections import Detections, class_count, gives_boxes
from yolo.errors import DataError
from yolo.inference.detector import Detector
from yolo.inference.drawing import draw
from yolo.inference.runner import TorchRunner
from yolo.network import Network

TRAIN, VALID = SPLITS
MOST = 8
SIDE, QUALITY = 560, 82  # longer side in pixels, of a JPEG of this quality
TEXT = 1 / 22  # height of text over the longer side: pictures are shown small, two in a row
LARGER = 3  # times, at most; labels would cover all of a small picture
SAME = 0.5  # IoU from which on two boxes of a class are one object


@dataclass(frozen=True)
class Picture:
    """A picture as JPEG files with boxes, before and after, and how many objects there are.

    `again` are those of the original that the cut network finds, too.
    """

    name: str
    before: bytes
    after: bytes
    width: int
    height: int
    found: tuple[int, int]
    again: int

    @property
    def caption(self) -> str:
        """How much of what the original finds is found again, in words."""
        before, after = self.found
        if not before:
            return "nothing found before" + (f", {after} after" if after else ", nor after")
        new = f", {after - self.again} more" if after > self.again else ""
        return f"{self.again} of {before} found again{new}"


def pictures(inputs: Inputs, original: Network, cut: Network) -> list[Picture]:
    """Up to MOST of the validation images, else of the calibration images; none of a classifier's.

    Those that can't be read are left out.
    """
    if not gives_boxes(original) or not (inputs.data or inputs.calibrate):
        return []
    return list(_pictures(inputs, original, cut))


def _pictures(inputs: Inputs, original: Network, cut: Network) -> Iterator[Picture]:
    names = _names(inputs, class_count(original))
    detectors = Detector(TorchRunner(original)), Detector(TorchRunner(cut))
    given, part = inputs.data or inputs.calibrate, VALID if inputs.data else TRAIN
    assert given is not None
    for name, read in own_pictures(given, part, original.image.channels, MOST):
        try:
            picture = read()
        except DataError:  # left out, as an evaluation does it
            continue
        before, after = (detector(picture) for detector in detectors)
        scaled = _scaled(picture)
        files = [_jpeg(draw(scaled, found, names, TEXT)) for found in (before, after)]
        yield Picture(
            name,
            before=files[0],
            after=files[1],
            width=scaled.shape[1],
            height=scaled.shape[0],
            found=(len(before), len(after)),
            again=found_again(before, after),
        )


def found_again(before: Detections, after: Detections) -> int:
    """The objects that are found both times: pairs of a class and an IoU of at least SAME.

    Every detection is in one pair at most; the most confident ones choose first.
    """
    free = list(range(len(after)))
    pairs = 0
    for index in before.confidences.argsort(descending=True).tolist():
        overlaps = iou(before.boxes[index], after.boxes[free])
        same = after.classes[free] == before.classes[index]
        overlaps = overlaps.masked_fill(~same, 0)
        if len(free) and float(overlaps.max()) >= SAME:
            del free[int(overlaps.argmax())]
            pairs += 1
    return pairs


def _names(inputs: Inputs, classes: int) -> Sequence[str]:
    """Those of the data set; else numbers."""
    path = inputs.data or inputs.calibrate or ""
    names = sources.load(path).names if path.endswith(DATA) else ()
    return names if len(names) == classes else [f"class {number}" for number in range(classes)]


def _scaled(picture: Pixels) -> Pixels:
    """A copy in RGB whose longer side is SIDE, or shorter where that would be LARGER."""
    height, width = picture.shape[:2]
    scale = min(SIDE / max(height, width), LARGER)
    size = max(round(scale * width), 1), max(round(scale * height), 1)
    rule = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = np.asarray(cv2.resize(picture, size, interpolation=rule), np.uint8)
    return scaled if scaled.ndim == 3 else scaled[:, :, None].repeat(3, 2)


def _jpeg(picture: Pixels) -> bytes:
    options = (cv2.IMWRITE_JPEG_QUALITY, QUALITY)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return content.tobytes()
