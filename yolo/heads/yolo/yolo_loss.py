"""The loss of [yolo]: delta_yolo_box and its part of process_batch in yolo_layer.c."""

from __future__ import annotations

import torch
from torch import Tensor

from yolo.boxes import iou
from yolo.heads.common.assign import Truths
from yolo.heads.common.box_delta import iou_delta
from yolo.heads.yolo.loss import AnchorLoss, Pairs, Rows, bounded


class YoloLoss(AnchorLoss):
    """Deltas for the centre after the logistic, and for the size before the exponential."""

    def ignore(self, rows: Rows, at: Tensor, truths: Truths) -> None:
        if not self.options.objectness_smooth:
            rows.delta[at, self.objectness] = 0
            return
        wanted = rows.best[at] - rows.output[at, self.objectness]
        rows.delta[at, self.objectness] = self.options.obj_normalizer * wanted

    def pull(self, rows: Rows, pairs: Pairs) -> Tensor:
        """Deltas (K, 4) of the coordinates, from squared differences or the IoU."""
        output, truths = rows.output[pairs.at, :4], pairs.truths
        weight = (pairs.weight * self.options.iou_normalizer)[:, None]
        if self.options.iou_loss == "mse":
            scale = 2 - truths[:, 2:].prod(1, keepdim=True)  # small boxes count more
            return scale * (self._wanted(rows, pairs) - output) * weight
        delta = iou_delta(rows.boxes[pairs.at], truths, self.options.iou_loss)
        if not self.head.new_coords:
            delta[:, 2:] *= output[:, 2:].exp()
        return bounded(delta * weight, self.options.max_delta)

    def taken(self, delta: Tensor, classes: Tensor) -> Tensor:
        return delta.gather(1, classes[:, None])[:, 0] != 0

    def find(self, rows: Rows, at: Tensor, wanted: Tensor) -> None:
        if self.options.objectness_smooth:
            before = rows.delta[at, self.objectness]
            wanted = torch.where(before == 0, wanted, before)
        super().find(rows, at, wanted)

    def several(self, rows: Rows) -> Tensor:
        if self.options.iou_thresh >= 1:
            return torch.ones_like(rows.cells)
        return super().several(rows).where(rows.delta[:, self.objectness] != 0, 1)

    def box_cost(self, rows: Rows, assigned: Pairs) -> Tensor:
        """The cost of the coordinates; with a loss by IoU, its sum over the truths.

        Darknet reports the mean over the truths, of 1 − IoU even for DIoU and CIoU.
        """
        if self.options.iou_loss == "mse":
            return super().box_cost(rows, assigned)
        overlap = iou(rows.boxes[assigned.at], assigned.truths, self.options.iou_loss)
        return self.options.iou_normalizer * (1 - overlap).sum()

    def _wanted(self, rows: Rows, pairs: Pairs) -> Tensor:
        """The coordinates that would decode to the truths."""
        corners, anchors = rows.corners[pairs.at], rows.anchors[pairs.at]
        times = pairs.truths[:, 2:] / anchors
        sizes = (times / 4).sqrt() if self.head.new_coords else times.log()
        return torch.cat((pairs.truths[:, :2] * rows.shape - corners, sizes), 1)
