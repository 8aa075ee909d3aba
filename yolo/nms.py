"""Non-maximum suppression: the choice of one box among those that overlap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yolo.boxes import iou, overlaps

LARGEST = 2**22  # numbers in a temporary tensor
CACHED = 2**18  # … in one that is read several times


@dataclass(frozen=True)
class Nms:
    """Boxes of one class that overlap by more than `thresh` are one object.

    The overlap is IoU or, where there is an `exponent`, DIoU with its penalty raised to that.
    Only the `per_class` most confident boxes of each class enter, and at most `per_image`
    detections of an image are left; 0 is no limit.
    """

    thresh: float = 0.45
    exponent: float | None = None
    per_class: int = 0
    per_image: int = 0

    def pairs(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs (a, b), a < b, of boxes (M, 4) that overlap."""
        step = max(1, LARGEST // max(len(boxes), 1))
        pairs = [boxes.new_zeros(0, 2, dtype=torch.long)]
        for start in range(0, len(boxes), step):
            rows = boxes[start : start + step, None]
            pairs.append((iou(rows, boxes[None, start:]) > self.thresh).triu(1).nonzero() + start)
        a, b = torch.cat(pairs).unbind(1)
        if self.exponent is None:
            return a, b
        closer = iou(boxes[a], boxes[b], "diou", self.exponent) > self.thresh
        return a[closer], b[closer]

    def kept(self, boxes: Tensor, confidences: Tensor) -> Tensor:
        """Mask (M, classes) of the boxes that no better kept box of the same class overlaps.

        Boxes (M, 4), confidences (M, classes), 0 where a box isn't of a class.
        """
        if self.per_class:
            return self._kept_of_best(boxes, confidences)
        a, b = self.pairs(boxes)
        kept = torch.ones_like(confidences, dtype=torch.bool)
        step = max(1, LARGEST // max(len(a), 1))
        for start in range(0, confidences.shape[1], step):
            some = slice(start, start + step)
            kept[:, some] = _kept_of_pairs(confidences[:, some], a, b)
        return kept

    def _kept_of_best(self, boxes: Tensor, confidences: Tensor) -> Tensor:
        """`kept` for a limit per class: compares the most confident boxes, class by class."""
        count = min(self.per_class, len(boxes))
        best, which = confidences.topk(count, 0)  # (K, classes), the most confident first
        kept = torch.zeros_like(confidences, dtype=torch.bool)
        step = max(1, CACHED // max(count * count, 1))
        for start in range(0, confidences.shape[1], step):
            some = slice(start, start + step)
            mine = boxes[which[:, some]].transpose(0, 1)  # (classes, K, 4)
            stay = _greedy(overlaps(mine, self.thresh), best[:, some].T > 0)
            kept[:, some] = kept[:, some].scatter(0, which[:, some], stay.T)
        return kept


def _greedy(overlap: Tensor, living: Tensor) -> Tensor:
    """Mask (B, K) of the boxes that stay: each overlaps no box before it that stays.

    `overlap` (B, K, K) is True where the box of the row, which comes first, overlaps the column's.
    All boxes stay at first; every pass corrects one more box of each chain of overlaps.
    """
    counted, stay = overlap.float(), living
    while True:
        # count the staying boxes that overlap each: a product of matrices is the fastest way
        now = living & (torch.bmm(stay[:, None].float(), counted)[:, 0] == 0)
        if torch.equal(now, stay):
            return stay
        stay = now


def _kept_of_pairs(confidences: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`kept` from the pairs (a, b) of boxes that overlap, pass by pass as in _greedy."""
    confidence_a, confidence_b = confidences[a], confidences[b]
    pair, column = ((confidence_a > 0) & (confidence_b > 0)).nonzero(as_tuple=True)
    a_first = confidence_a[pair, column] >= confidence_b[pair, column]
    a, b = a[pair], b[pair]
    classes = confidences.shape[1]
    better = torch.where(a_first, a, b) * classes + column
    worse = torch.where(a_first, b, a) * classes + column
    kept = torch.ones(confidences.numel(), dtype=torch.bool, device=confidences.device)
    while True:
        now = torch.ones_like(kept)
        now[worse[kept[better]]] = False
        if torch.equal(now, kept):
            return kept.reshape(confidences.shape)
        kept = now
