"""The forms in which an ONNX file gives boxes: how its outputs are written and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolo.boxes import corners
from yolo.detections import Candidates, confident, detecting_heads
from yolo.heads.common.base import BoxHead
from yolo.layers import Shape
from yolo.network import Network


@dataclass(frozen=True)
class DarknetLayout:
    """`boxes` (N, boxes, 4 + 1 + classes).

    Centre x, y, width, height relative to the input, objectness, class probabilities.
    """

    names = ("boxes",)

    def write(self, network: Network, decoded: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs of the graph from each head's decoded boxes (N, boxes, 5 + classes)."""
        return (torch.cat(tuple(decoded), 1),)

    def read(
        self, network: Network, arrays: Mapping[str, Tensor], thresh: float
    ) -> list[Candidates]:
        """Candidates of every image with a confidence above `thresh`, from the graph's outputs."""
        heads = detecting_heads(network)
        parts = arrays["boxes"].split([box_count(head) for head in heads], 1)
        parts_of_images = [
            confident(head, part, thresh) for head, part in zip(heads, parts, strict=True)
        ]
        return [Candidates.joined(image) for image in zip(*parts_of_images, strict=True)]

    def scores(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Objectness · probability (N, boxes, classes), from the graph's outputs."""
        rows = arrays["boxes"]
        return rows[..., 4:5] * rows[..., 5:]


@dataclass(frozen=True)
class ConfsBoxes:
    """`confs` (N, boxes, classes), objectness · probability, and `boxes` (N, boxes, 1, 4).

    The boxes are corners x1, y1, x2, y2 relative to the input, as hank-ai's Darknet exports them.
    """

    names = ("confs", "boxes")

    def write(self, network: Network, decoded: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs of the graph from each head's decoded boxes (N, boxes, 5 + classes)."""
        boxes, confidences = _joined(network, decoded)
        return confidences, corners(boxes)[:, :, None]

    def read(
        self, network: Network, arrays: Mapping[str, Tensor], thresh: float
    ) -> list[Candidates]:
        """Candidates of every image with a confidence above `thresh`, from the graph's outputs."""
        first, second = arrays["boxes"].flatten(2).split(2, 2)
        boxes = torch.cat(((first + second) / 2, second - first), 2)
        return _above(boxes, arrays["confs"], thresh)

    def scores(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Confidences (N, boxes, classes), from the graph's outputs."""
        return arrays["confs"]


@dataclass(frozen=True)
class Ultralytics:
    """`output0` (N, 4 + classes, boxes).

    Centre x, y, width, height in pixels of the input, then objectness · probability.
    """

    names = ("output0",)

    def write(self, network: Network, decoded: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs of the graph from each head's decoded boxes (N, boxes, 5 + classes)."""
        boxes, confidences = _joined(network, decoded)
        pixels = boxes * _size(network.image, boxes)
        return (torch.cat((pixels, confidences), 2).transpose(1, 2),)

    def read(
        self, network: Network, arrays: Mapping[str, Tensor], thresh: float
    ) -> list[Candidates]:
        """Candidates of every image with a confidence above `thresh`, from the graph's outputs."""
        rows = arrays["output0"].transpose(1, 2)
        boxes = rows[..., :4] / _size(network.image, rows)
        return _above(boxes, rows[..., 4:], thresh)

    def scores(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Confidences (N, classes, boxes), from the graph's outputs."""
        return arrays["output0"][:, 4:]


def box_count(head: BoxHead) -> int:
    """The number of boxes that a head decodes for one image."""
    shape = head.out_shape
    out = torch.empty(1, shape.channels, shape.height, shape.width, device="meta")
    return head.decode(out).shape[1]


def _joined(network: Network, decoded: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Boxes (N, boxes, 4) and confidences (N, boxes, classes) of all heads."""
    heads = detecting_heads(network)
    confidences = [head.confidences(part, 0.0) for head, part in zip(heads, decoded, strict=True)]
    return torch.cat([part[..., :4] for part in decoded], 1), torch.cat(confidences, 1)


def _above(boxes: Tensor, confidences: Tensor, thresh: float) -> list[Candidates]:
    sure = torch.where(confidences > thresh, confidences, 0)
    images = zip(boxes, sure, (sure > 0).any(2), strict=True)
    return [Candidates(box, scores).part(rows) for box, scores, rows in images]


def _size(image: Shape, like: Tensor) -> Tensor:
    return like.new_tensor((image.width, image.height, image.width, image.height))
