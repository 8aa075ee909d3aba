"""The loss of [Gaussian_yolo]: delta_gaussian_yolo_box and its callers in gaussian_yolo_layer.c.

J. Choi et al., Gaussian YOLOv3, arXiv 1904.04620.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from yolo.heads.common.assign import Truths
from yolo.heads.common.box_delta import iou_delta
from yolo.heads.yolo.loss import AnchorLoss, Pairs, Rows, bounded

SIGMA = 0.3  # added to an uncertainty before the likelihood divides by it
TINY = 1e-9


class GaussianLoss(AnchorLoss):
    """Deltas for the means of x, y, w, h, each followed by that of its uncertainty."""

    def ignore(self, rows: Rows, at: Tensor, truths: Truths) -> None:
        if self.options.objectness_smooth:
            pairs = self.overlapping(rows, at, truths)
            self.set_certainty(rows, pairs)
            self.set_classes(rows, pairs)
        else:
            rows.delta[at, self.objectness] = 0

    def pull(self, rows: Rows, pairs: Pairs) -> Tensor:
        """Deltas (K, 8) of means and uncertainties, from the likelihood or the IoU."""
        output, most = rows.output[pairs.at, :8], self.options.max_delta
        mean, sigma = output[:, ::2], output[:, 1::2]
        scale = 2 - pairs.truths[:, 2:].prod(1, keepdim=True)  # small boxes count more
        distance = (self._wanted(rows, pairs) - mean) / sigma
        density = (-distance.square() / 2).exp() / (math.sqrt(2 * math.pi) * (sigma + SIGMA))
        likely = 0.5 / (density + TINY) * density * scale
        spread = likely * (distance.square() / sigma - 1 / (sigma + SIGMA))
        if self.options.iou_loss == "mse":
            move = likely * distance / sigma
        else:
            move = self._moved_by_iou(rows, pairs, mean)
        weight = (pairs.weight * self.options.iou_normalizer)[:, None]
        parts = (
            bounded(move * weight, most),
            bounded(spread * self.options.uc_normalizer, most),
        )
        return torch.stack(parts, 2).flatten(1)

    def taken(self, delta: Tensor, classes: Tensor) -> Tensor:
        return delta[:, 0] != 0  # of the first class, as in the C file

    def _moved_by_iou(self, rows: Rows, pairs: Pairs, mean: Tensor) -> Tensor:
        delta = iou_delta(rows.boxes[pairs.at], pairs.truths, self.options.iou_loss)
        xy, size = delta[:, :2], delta[:, 2:]
        # with an offset, a change of the size moves the centre
        return torch.cat((xy - self.head.offset * size, size * mean[:, 2:].exp()), 1)

    def _wanted(self, rows: Rows, pairs: Pairs) -> Tensor:
        """The means that would decode to the truths."""
        corners, anchors = rows.corners[pairs.at], rows.anchors[pairs.at]
        xy = self.head.reference(pairs.truths) * rows.shape - corners
        return torch.cat((xy, (pairs.truths[:, 2:] / anchors).log()), 1)
