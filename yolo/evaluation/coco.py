"""COCO's average precision, computed by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from yolo.detections import Detections
from yolo.errors import DarknetError
from yolo.evaluation.average_precision import NO_TRUTHS

# the first numbers of COCOeval.summarize()
SUMMARY = ("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge")


class CocoBoxes:
    """Truths and detections of a data set, gathered image by image.

    Boxes become pixels of the image files; a truth's area, by which COCO calls it small (below
    32²), medium or large (from 96²), is that of its box. Difficult objects become crowds, as these
    are COCO's only truths whose detections count neither as right nor as wrong.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self.images: list[dict[str, int]] = []
        self.truths: list[dict[str, Any]] = []
        self.results: list[np.ndarray] = []

    def add(
        self,
        detections: Detections,
        truths: Tensor,
        size: tuple[int, int],
        difficult: Tensor = NO_TRUTHS,
    ) -> None:
        """Add an image of `size` (width, height).

        `truths`, `difficult`: (M, 5) class, centre x, y, w, h, relative.
        """
        number = len(self.images) + 1
        self.images.append({"id": number, "width": size[0], "height": size[1]})
        self._annotate(number, truths, size, iscrowd=0)
        self._annotate(number, difficult, size, iscrowd=1)
        columns = (
            np.full(len(detections), number),
            _corner(detections.boxes, size),
            detections.confidences.cpu().numpy(),
            detections.classes.cpu().numpy(),
        )
        self.results.append(np.column_stack(columns))

    def _annotate(self, number: int, truths: Tensor, size: tuple[int, int], iscrowd: int) -> None:
        for truth, box in zip(truths.tolist(), _corner(truths[:, 1:], size), strict=True):
            self.truths.append(
                {
                    "id": len(self.truths) + 1,  # COCOeval takes 0 for no match
                    "image_id": number,
                    "category_id": int(truth[0]),
                    "bbox": box.tolist(),
                    "area": float(box[2] * box[3]),
                    "iscrowd": iscrowd,
                }
            )

    def summary(self) -> dict[str, float | None]:
        """AP@[.5:.95], AP50, AP75 and by size; None where there is no truth of that size.

        Raises DarknetError where pycocotools is missing.
        """
        try:
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
        except ImportError as error:
            message = "COCO's AP needs pycocotools: pip install pycocotools"
            raise DarknetError(message) from error
        results = np.concatenate(self.results)
        with contextlib.redirect_stdout(io.StringIO()):
            truths = COCO()
            truths.dataset = self._dataset()
            truths.createIndex()
            evaluation = COCOeval(
                truths, truths.loadRes(results) if len(results) else COCO(), "bbox"
            )
            evaluation.params.imgIds = [image["id"] for image in self.images]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        values = evaluation.stats[: len(SUMMARY)]
        return {name: None if v < 0 else float(v) for name, v in zip(SUMMARY, values, strict=True)}

    def _dataset(self) -> dict[str, Any]:
        categories = [{"id": i, "name": name} for i, name in enumerate(self.names)]
        return {"images": self.images, "annotations": self.truths, "categories": categories}


def _corner(boxes: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Relative centre x, y, w, h → pixels x, y of the upper left corner, w, h; float64."""
    scale = np.array([*size, *size], float)
    pixels = boxes.cpu().double().numpy() * scale
    return np.concatenate((pixels[:, :2] - pixels[:, 2:] / 2, pixels[:, 2:]), 1)
