"""The targets of a head, and its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class GroundTruth:
    """The truths of a batch: boxes for detectors, labels for classifiers.

    `boxes` (M, 6): image number in the batch, class, centre x, y, width, height relative to the
    network's input; the classes must be the head's. `labels` (N, classes): probabilities.
    """

    boxes: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> GroundTruth:
        """A copy on another device."""
        return GroundTruth(self.boxes.to(device), self.labels.to(device))


@dataclass(frozen=True)
class HeadLoss:
    """A head's loss, summed over the images of the batch.

    `total`: a scalar like the cost that Darknet reports; its gradient with respect to the head's
    input is −delta of Darknet. `parts`: the parts of the cost ("box", "objectness", "class") and,
    for detectors, the mean "iou" of the predictions assigned to a truth, and their "count".
    """

    total: Tensor
    parts: dict[str, float]


class LossRule(Protocol):
    """The loss of a section."""

    def loss(self, x: Tensor, targets: GroundTruth, seen: int) -> HeadLoss:
        """The loss for targets, from `x` (N, C, H, W).

        `x` is the section's input, or its output where several sections feed it; `seen` is the
        number of images trained with, these included. Raises CfgError where the targets don't fit.
        """


def surrogate(x: Tensor, delta: Tensor, value: Tensor) -> Tensor:
    """A loss with this value, whose gradient with respect to x is −delta, of x's shape.

    Darknet's updates are not the gradient of any loss function: a layer computes deltas by rules
    that leave out derivatives (of the logistic for x and y, of the factor in w and h), clip, or let
    truths that share a cell overwrite each other. Values of iou_normalizer= and similar keys in
    existing cfgs are tuned for those deltas, so training uses the same.
    """
    result: Tensor = _Surrogate.apply(x, delta, value)
    return result


class _Surrogate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(delta)
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (delta,) = ctx.saved_tensors
        return -gradient * delta, None, None


def focal(output: Tensor, column: Tensor) -> Tensor:
    """Class deltas of the focal loss with α = 1/2 and γ = 2 (arXiv 1708.02002)."""
    own = output.gather(1, column) + 1e-15
    slope = -(1 - own) * (2 * own * own.log() + own - 1)
    return (-output).scatter_add(1, column, torch.ones_like(own)) * slope / 2
