"""Overlaps of boxes: IoU and its relatives, with the conventions of Darknet's box.c."""

import math

import torch
from torch import Tensor

KINDS = ("iou", "giou", "diou", "ciou")


def iou(a: Tensor, b: Tensor, kind: str = "iou", exponent: float = 1.0) -> Tensor:
    """Overlap of boxes (…, 4) with boxes (…, 4), broadcast: centre x, y, width, height → (…).

    "iou" lies in [0, 1] and is 0 without overlap or without any area; "giou" (arXiv 1902.09630),
    "diou" and "ciou" (arXiv 1911.08287) subtract a penalty from it and are the IoU where the box
    around both is empty. DIoU's penalty is raised to `exponent`: box_diou of box.c, which
    Darknet's greedy NMS calls, uses 0.6. Raises ValueError for another kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: expected one of {', '.join(KINDS)}")
    intersection, union = _areas(a, b)
    overlap = intersection / union.masked_fill(union == 0, 1)
    if kind == "iou":
        return overlap
    width, height = _around(a, b, 0), _around(a, b, 1)
    if kind == "giou":
        area = width * height
        return overlap - _ratio(area - union, area)
    diagonal = width**2 + height**2
    distance = (a[..., 0] - b[..., 0]) ** 2 + (a[..., 1] - b[..., 1]) ** 2
    apart = _ratio(distance, diagonal)
    if kind == "diou":
        return overlap - (apart if exponent == 1 else apart**exponent)
    penalty = apart + _shape_penalty(a, b, overlap)
    return overlap - penalty.masked_fill(diagonal == 0, 0)


def overlaps(boxes: Tensor, thresh: float) -> Tensor:
    """Mask (…, K, K) of the pairs of boxes (…, K, 4) whose IoU is above `thresh`.

    Only pairs of a box (row) and a later one (column) are marked. There is no division, and all is
    in place: NMS spends its time here.
    """
    rows, columns = boxes[..., :, None, :], boxes[..., None, :, :]
    shared = _shared(rows, columns, 0).clamp_(min=0)
    shared *= _shared(rows, columns, 1).clamp_(min=0)
    area = boxes[..., 2] * boxes[..., 3] * thresh
    union = (area[..., :, None] + area[..., None, :]).sub_(shared, alpha=thresh)
    return (shared > union).triu_(1)


def corners(boxes: Tensor) -> Tensor:
    """Centre x, y, width, height → x1, y1, x2, y2: (…, 4)."""
    centres, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((centres - halves, centres + halves), -1)


def _edges(boxes: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Begin and end of boxes along an axis (0: x, 1: y)."""
    centre, half = boxes[..., axis], boxes[..., axis + 2] / 2
    return centre - half, centre + half


def _shared(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Length along an axis that both cover; negative where they are apart."""
    (start, end), (other_start, other_end) = _edges(a, axis), _edges(b, axis)
    return torch.minimum(end, other_end).sub_(torch.maximum(start, other_start))


def _around(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """Length along an axis of the smallest box around both."""
    (start, end), (other_start, other_end) = _edges(a, axis), _edges(b, axis)
    return torch.maximum(end, other_end) - torch.minimum(start, other_start)


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union; every product and sum as box.c has it, so that floats agree."""
    intersection = _shared(a, b, 0).clamp(min=0) * _shared(a, b, 1).clamp(min=0)
    return intersection, a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - intersection


def _shape_penalty(a: Tensor, b: Tensor, overlap: Tensor) -> Tensor:
    """CIoU's α·v, which compares the aspect ratios."""
    angle = torch.atan2(b[..., 2], b[..., 3]) - torch.atan2(a[..., 2], a[..., 3])
    difference = 4 / math.pi**2 * angle**2
    return difference**2 / (1 - overlap + difference + 1e-6)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where `whole` is 0."""
    return (part / whole.masked_fill(whole == 0, 1)).masked_fill(whole == 0, 0)
