"""Average precision as `darknet detector map` computes it (validate_detector_map of detector.c)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolo.boxes import iou
from yolo.detections import Detections

NONE = -1  # number of the truth where a detection found none
NO_TRUTHS = torch.zeros(0, 5)


@dataclass(frozen=True)
class Matches:
    """Detections of one image, or of several, and the truths that they found.

    For every detection, in Darknet's order: `confidences` float32, `classes`, `truths` (number of
    the truth that it overlaps most, or NONE) and `overlaps` (their IoU). `truth_classes` are the
    classes of the truths.
    """

    confidences: NDArray[np.float32]
    classes: NDArray[np.int64]
    truths: NDArray[np.int64]
    overlaps: NDArray[np.float32]
    truth_classes: NDArray[np.int64]

    @classmethod
    def join(cls, images: Sequence[Matches]) -> Matches:
        """The matches of several images; truths are numbered through all of them."""
        counts = [len(image.truth_classes) for image in images]
        before = np.cumsum([0, *counts])
        truths = [
            np.where(image.truths == NONE, NONE, image.truths + first)
            for image, first in zip(images, before[:-1], strict=True)
        ]
        return cls(
            np.concatenate([image.confidences for image in images]),
            np.concatenate([image.classes for image in images]),
            np.concatenate(truths),
            np.concatenate([image.overlaps for image in images]),
            np.concatenate([image.truth_classes for image in images]),
        )


@dataclass(frozen=True)
class Counts:
    """True and false positives per class above a confidence, and Σ IoU of the true ones."""

    tp: NDArray[np.int64]
    fp: NDArray[np.int64]
    overlap: float

    @property
    def iou(self) -> float:
        """Mean IoU of all these detections; a false positive counts as 0."""
        return self.overlap / max(int(self.tp.sum() + self.fp.sum()), 1)


def match(
    detections: Detections, truths: Tensor, iou_thresh: float, difficult: Tensor = NO_TRUTHS
) -> Matches:
    """Compare the detections of an image with its truths (M, 5): class, centre x, y, w, h.

    A detection finds the truth of its class that it overlaps most, if their IoU is more than
    `iou_thresh`. One that finds none, but overlaps a `difficult` object of its class that much, is
    dropped. (Darknet drops it from mAP, yet counts it as wrong in its precision.)
    """
    detections = detections.cpu()
    truths = truths.cpu()
    overlaps, which = _best(detections, truths, iou_thresh)
    _, excuse = _best(detections, difficult.cpu(), iou_thresh)
    keep = (which != NONE) | (excuse == NONE)
    return Matches(
        detections.confidences[keep].numpy(),
        detections.classes[keep].numpy(),
        which[keep].numpy(),
        overlaps[keep].numpy(),
        truths[:, 0].long().numpy(),
    )


def average_precisions(matches: Matches, classes: int, points: int = 0) -> NDArray[np.float64]:
    """AP of every class, 0 for one without truths.

    points=0 is the area under the precision's envelope (VOC 2010); 11 (VOC 2007) and 101 (COCO)
    are the mean of the envelope at that number of recalls.
    """
    order = np.argsort(-matches.confidences, kind="stable")
    hits = _first(matches.truths[order])
    predicted = matches.classes[order]
    truths = np.bincount(matches.truth_classes, minlength=classes)
    return np.array(
        [average_precision(hits[predicted == c], truths[c], points) for c in range(classes)]
    )


def average_precision(hits: NDArray[np.bool_], truths: int, points: int = 0) -> float:
    """AP of one class; `hits` is True for each detection, by falling confidence, of a new truth."""
    if truths == 0 or len(hits) == 0:
        return 0.0
    positives = hits.cumsum()
    recall = positives / truths
    precision = positives / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points == 0:
        return float((np.diff(recall, prepend=0) * envelope).sum())
    recalls = np.arange(points) / (points - 1)
    reached = np.searchsorted(recall, recalls)
    return float(np.append(envelope, 0)[reached].mean())


def count(matches: Matches, classes: int, conf_thresh: float) -> Counts:
    """Count the detections above a confidence.

    As in Darknet, the true one of several detections of one truth is the first in the order of
    boxes, not of confidences; it may be one below the threshold, which then isn't counted.
    """
    confident = matches.confidences > np.float32(conf_thresh)
    true = confident & _first(matches.truths)
    tp = np.bincount(matches.classes[true], minlength=classes)
    fp = np.bincount(matches.classes[confident & ~true], minlength=classes)
    return Counts(tp, fp, float(matches.overlaps[true].sum(dtype=np.float64)))


def _best(detections: Detections, truths: Tensor, iou_thresh: float) -> tuple[Tensor, Tensor]:
    """IoU of every detection with the truth that it finds, and that truth's number, or NONE."""
    if not len(truths):
        nothing = torch.zeros(len(detections))
        return nothing, torch.full((len(detections),), NONE)
    overlaps = iou(detections.boxes[:, None], truths[None, :, 1:])
    same = detections.classes[:, None] == truths[None, :, 0].long()
    overlaps = torch.where(same & (overlaps > iou_thresh), overlaps, 0)
    best, which = overlaps.max(1)
    return best, torch.where(best > 0, which, NONE)


def _first(truths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of the first detection of every truth."""
    first = np.zeros(len(truths), bool)
    first[np.unique(truths, return_index=True)[1]] = True
    return first & (truths != NONE)
