"""Darknet's update of a predicted box towards a truth by IoU: dx_box_iou of box.c.

Pairs of numbers (K, 2) belong to x and y; flip(1) swaps the axes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """The extent of boxes along both axes, from `low` to `high`: (K, 2) each."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, boxes: Tensor) -> "Span":
        centre, size = boxes[:, :2], boxes[:, 2:]
        return cls(centre - size / 2, centre + size / 2)

    @property
    def size(self) -> Tensor:
        return self.high - self.low

    @property
    def area(self) -> Tensor:
        """(K, 1)"""
        return self.size.prod(1, keepdim=True)

    def shared(self, other: "Span") -> "Span":
        """The span of both; its size is negative where they are apart."""
        return Span(torch.maximum(self.low, other.low), torch.minimum(self.high, other.high))

    def around(self, other: "Span") -> "Span":
        return Span(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))


def iou_delta(predicted: Tensor, truth: Tensor, kind: str) -> Tensor:
    """Boxes (K, 4) → ascent directions (K, 4) in centre x, y, width, height.

    `kind`: iou, giou, diou or ciou; a width or height of 0 counts as 1. Not quite gradients: those
    of IoU and GIoU in width and height are twice too large, that of DIoU's penalty in them has the
    other sign, and CIoU's α counts as a constant. Not finite where a box is so small that its area
    rounds to 0.
    """
    size = predicted[:, 2:]
    predicted = torch.cat((predicted[:, :2], size.masked_fill(size == 0, 1)), 1)
    p, t = Span.of(predicted), Span.of(truth)
    overlap, outside = _overlap_slopes(p, t)
    apart = (p.shared(t).size <= 0).any(1, keepdim=True)
    if kind == "giou":
        # box.c leaves the penalty out where the box around both is empty: it would divide by 0
        empty = ~(p.around(t).area > 0)
        both = Span(overlap.low + outside.low, overlap.high + outside.high)
        meeting = _either(empty, overlap, both)
        return _by_centre(_either(apart, outside, meeting))
    slopes = _by_centre(overlap)
    if kind == "iou":
        return slopes
    penalty = _distance_slope(predicted, truth, p, t)
    if kind == "ciou":
        penalty[:, 2:] += _shape_slope(predicted, truth, p, t)
    empty = ~(p.around(t).size.square().sum(1, keepdim=True) > 0)
    added = torch.where(empty, slopes, slopes + penalty)
    return torch.where(apart, penalty, added)


def _overlap_slopes(p: Span, t: Span) -> tuple[Span, Span]:
    """Slopes of the IoU and of union / area around both, by each edge of the predicted boxes."""
    shared, around = p.shared(t), p.around(t)
    i, c = shared.area, around.area
    u = p.area + t.area - i
    across = p.size.flip(1)
    i_low = torch.where(p.low > t.low, -shared.size.flip(1), 0)
    i_high = torch.where(p.high < t.high, shared.size.flip(1), 0)
    c_low = torch.where(p.low < t.low, -around.size.flip(1), 0)
    c_high = torch.where(p.high > t.high, around.size.flip(1), 0)
    u_low, u_high = -across - i_low, across - i_high
    low = torch.where(u > 0, (u * i_low - i * u_low) / (u * u), 0)
    high = torch.where(u > 0, (u * i_high - i * u_high) / (u * u), 0)
    low = torch.where(p.low < p.high, low, high)  # boxes so thin that both edges are equal
    outside = Span((c * u_low - u * c_low) / (c * c), (c * u_high - u * c_high) / (c * c))
    return Span(low, high), outside


def _distance_slope(predicted: Tensor, truth: Tensor, p: Span, t: Span) -> Tensor:
    """Slope of DIoU's penalty: squared distance of the centres over the squared diagonal around."""
    size = p.around(t).size
    diagonal = size.square().sum(1, keepdim=True)
    offset = truth[:, :2] - predicted[:, :2]
    distance = offset.square().sum(1, keepdim=True)
    low, high = (p.low < t.low).to(size), (p.high > t.high).to(size)
    centre = 2 * offset * diagonal - 2 * size * (high - low) * distance
    extent = size * (high + low) * distance
    return torch.cat((centre, extent), 1) / (diagonal * diagonal)


def _shape_slope(predicted: Tensor, truth: Tensor, p: Span, t: Span) -> Tensor:
    """CIoU's α times the slope of its v, without the factor 1 / (w² + h²)."""
    overlap = p.shared(t).area
    iou = overlap / (p.area + t.area - overlap)
    angle = _ratio_angle(truth) - _ratio_angle(predicted)
    v = 4 / math.pi**2 * angle.square()
    alpha = v / (1 - iou + v + 1e-6)
    height_width = predicted[:, 2:].flip(1) * predicted.new_tensor((1, -1))
    return alpha * (8 / math.pi**2 * angle * height_width)


def _ratio_angle(boxes: Tensor) -> Tensor:
    return torch.atan(boxes[:, 2:3] / boxes[:, 3:4])


def _by_centre(slopes: Span) -> Tensor:
    return torch.cat((slopes.low + slopes.high, slopes.high - slopes.low), 1)


def _either(condition: Tensor, yes: Span, no: Span) -> Span:
    low = torch.where(condition, yes.low, no.low)
    return Span(low, torch.where(condition, yes.high, no.high))
