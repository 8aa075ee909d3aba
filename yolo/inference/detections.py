"""From the heads' outputs to boxes: candidates and non-maximum suppression, as Darknet does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yolo.datasets.images import Placement
from yolo.errors import DarknetError
from yolo.heads.common.base import BoxHead, box_heads
from yolo.network import Network
from yolo.nms import Nms


@dataclass(frozen=True)
class Detections:
    """Objects found in an image: in Darknet's order, or, where NMS limits them, the surest first.

    `boxes` (M, 4) are centre x, y, width, height relative to the image, `classes` (M,) int64,
    `confidences` (M,) objectness · probability. A box is there once for each of its classes.
    """

    boxes: Tensor
    classes: Tensor
    confidences: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def surest(self, count: int | None = None) -> Detections:
        """The `count` most confident ones, all for None, by falling confidence."""
        order = self.confidences.argsort(descending=True, stable=True)[:count]
        return Detections(self.boxes[order], self.classes[order], self.confidences[order])


def gives_boxes(network: Network) -> bool:
    """True for a detector."""
    return any(layer.gives_boxes for layer in network.layers)


def detecting_heads(network: Network) -> list[BoxHead]:
    """The heads that give boxes; raises DarknetError where there is none."""
    heads = box_heads(network.layers)
    if not heads:
        raise DarknetError(f"{network.cfg.path}: has no head that gives boxes")
    return heads


def suppression(network: Network, thresh: float | None = None) -> Nms:
    """The NMS that the last head asks for (detector.c); `thresh` takes the place of its own."""
    return detecting_heads(network)[-1].suppression(thresh)


def box_classes(network: Network) -> int:
    """How many classes the heads know; raises CfgError where they disagree."""
    first, *others = detecting_heads(network)
    for head in others:
        if head.classes != first.classes:
            raise head.section.error(
                f"classes={head.classes}, but the head in line {first.section.line + 1} "
                f"has {first.classes}"
            )
    return first.classes


@torch.no_grad()
def detect(
    network: Network,
    outputs: Mapping[int, Tensor],
    thresh: float,
    nms: Nms | None,
    placements: Sequence[Placement] | None = None,
) -> list[Detections]:
    """The boxes of every image of a batch whose confidence is above `thresh`.

    `outputs` are those of all heads, as Network.forward gives them; `placements` tell where the
    images lie in the network's input, None: all over it.
    """
    found = candidates(network, outputs, thresh)
    if placements is not None:
        found = [
            (relative_to_image(boxes, place), confidences)
            for (boxes, confidences), place in zip(found, placements, strict=True)
        ]
    return [suppress(boxes, confidences, nms) for boxes, confidences in found]


def candidates(
    network: Network, outputs: Mapping[int, Tensor], thresh: float
) -> list[tuple[Tensor, Tensor]]:
    """For every image the boxes (M, 4) that have any confidence (M, classes) above `thresh`.

    Boxes are relative to the network's input. Confidences that aren't above it are 0
    (get_network_boxes of network.c).
    """
    box_classes(network)
    heads = [
        _confident(head, head.decode(outputs[head.section.index].float()), thresh)
        for head in detecting_heads(network)
    ]
    images = [zip(*parts, strict=True) for parts in zip(*heads, strict=True)]
    return [(torch.cat(boxes), torch.cat(confidences)) for boxes, confidences in images]


def relative_to_image(boxes: Tensor, placement: Placement) -> Tensor:
    """Boxes (M, 4) relative to the network's input → relative to the image that lies there."""
    x, y, width, height = placement
    corner, size = boxes.new_tensor((x, y)), boxes.new_tensor((width, height))
    return torch.cat(((boxes[:, :2] - corner) / size, boxes[:, 2:] / size), 1)


def suppress(boxes: Tensor, confidences: Tensor, nms: Nms | None) -> Detections:
    """Drop every box that overlaps one of the same class with more confidence that stays.

    Boxes (M, 4), confidences (M, classes), 0 where a box isn't of a class.
    """
    if nms is None or not nms.per_class:
        order = _order(confidences)
        boxes, confidences = boxes[order], confidences[order]
    found = confidences > 0
    if nms is not None:
        found &= nms.kept(boxes, confidences)
    which, classes = found.nonzero(as_tuple=True)
    kept = Detections(boxes[which], classes, confidences[which, classes])
    if nms and (nms.per_class or nms.per_image):
        return kept.surest(nms.per_image or None)
    return kept


def _confident(head: BoxHead, decoded: Tensor, thresh: float) -> list[tuple[Tensor, Tensor]]:
    """Per image boxes (M, 4) and confidences (M, classes) of one head."""
    confidences = head.confidences(decoded, thresh)
    any_ = (confidences > 0).any(2)
    return [
        (image[rows, :4], confidence[rows])
        for image, confidence, rows in zip(decoded, confidences, any_, strict=True)
    ]


def _order(confidences: Tensor) -> Tensor:
    """Darknet's: it sorts the boxes by each class in turn, so the last class counts first."""
    keys = -confidences.T.cpu().numpy()
    return torch.from_numpy(np.lexsort(keys)).to(confidences.device)
