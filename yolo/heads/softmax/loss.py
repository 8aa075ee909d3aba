"""The losses of classifiers: softmax_layer.c and cost_layer.c."""

from __future__ import annotations

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.loss import GroundTruth, HeadLoss, surrogate
from yolo.layers.base import Layer

UNKNOWN = -1234.0  # SECRET_NUM: type=masked ignores such labels
COSTS = {"sse": "sse", "masked": "masked", "smooth": "smooth"}


def labels_for(section: Section, x: Tensor, targets: GroundTruth) -> Tensor:
    """The labels with dtype and device of x (N, classes); raises CfgError unless shapes agree."""
    if targets.labels.shape != x.shape:
        raise section.error(
            f"gets {x.shape[1]} numbers for each of {len(x)} images, but the labels have "
            f"{targets.labels.shape[1]} classes for {len(targets.labels)} images"
        )
    return targets.labels.to(x)


class CostLoss:
    """[cost]: squared (sse, masked) or smooth-L1 differences from the labels, times `scale`."""

    def __init__(self, section: Section) -> None:
        self.section = section
        self.kind = section.choice("type", "sse", COSTS)
        self.scale = section.number("scale", 1.0)
        if section.number("ratio", 0.0):
            raise section.error("ratio= is not supported in training", "ratio")

    def loss(self, x: Tensor, targets: GroundTruth, seen: int) -> HeadLoss:
        """The loss from the section's input (N, …) and the labels."""
        flat = x.float().flatten(1)
        with torch.no_grad():
            delta, value = self.delta(flat, labels_for(self.section, flat, targets))
        return HeadLoss(surrogate(flat, self.scale * delta, value), {"class": value.item()})

    def delta(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Darknet's delta (N, classes), without `scale`, and its cost."""
        difference = labels - x
        if self.kind == "masked":
            difference = torch.where(labels == UNKNOWN, 0, difference)
        if self.kind != "smooth":
            return difference, difference.square().sum()
        size = difference.abs()
        cost = torch.where(size < 1, size.square(), 2 * size - 1)
        return difference.clamp(-1, 1), cost.sum()


class SoftmaxLoss:
    """[softmax]: cross-entropy, and the [cost] after it where there is one.

    Darknet adds a [cost]'s delta of the probabilities to the delta of the logits; so the updates of
    its classifiers, most of which have both, are twice the gradient of the cross-entropy. The
    temperature divides neither.
    """

    def __init__(self, head: Layer, cost: CostLoss | None = None) -> None:
        self.head, self.cost = head, cost
        self.entropy = not head.section.flag("noloss")
        if not self.entropy and cost is None:
            raise head.section.error("noloss=1 leaves no loss to train with", "noloss")

    def loss(self, x: Tensor, targets: GroundTruth, seen: int) -> HeadLoss:
        """The loss from the head's input (N, C, H, W) and the labels."""
        x = x.float()
        with torch.no_grad():
            flat = self.head(x).flatten(1)
            labels = labels_for(self.head.section, flat, targets)
            # softmax_x_ent_cpu omits the factor `labels`, which is 1 where an image has one class.
            # Clamped, as the logarithm of a probability that rounds to 0 would be infinite.
            certain = flat.clamp(min=torch.finfo(flat.dtype).tiny)
            value = -torch.where(labels > 0, labels * certain.log(), 0).sum()
            delta = (labels - flat) * self.entropy
            if self.cost is not None:
                added, cost = self.cost.delta(flat, labels)
                delta = delta + self.cost.scale * added
                value = value * self.entropy + cost
        return HeadLoss(surrogate(x, delta.view_as(x), value), {"class": value.item()})
