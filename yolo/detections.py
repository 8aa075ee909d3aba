"""Boxes from the heads' outputs: candidates and non-maximum suppression, as Darknet does it."""

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
    """Objects found in an image, in Darknet's order or, where NMS limits them, by confidence.

    `boxes` (M, 4) are centre x, y, width, height relative to the image, `classes` (M,) int64,
    `confidences` (M,) objectness · probability. A box appears once for each of its classes.
    """

    boxes: Tensor
    classes: Tensor
    confidences: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def surest(self, count: int | None = None) -> Detections:
        """The `count` most confident ones, all for None, by falling confidence."""
        return self.part(self.confidences.argsort(descending=True, stable=True)[:count])

    def part(self, which: Tensor) -> Detections:
        """The detections with these indices (K,), in their order."""
        return Detections(self.boxes[which], self.classes[which], self.confidences[which])

    def cpu(self) -> Detections:
        """A copy in main memory."""
        return Detections(self.boxes.cpu(), self.classes.cpu(), self.confidences.cpu())


@dataclass(frozen=True)
class Candidates:
    """The boxes of an image before NMS.

    `boxes` (M, 4) are relative to the network's input or, once placed, to the image, `confidences`
    (M, classes) are 0 where a box isn't of a class.
    """

    boxes: Tensor
    confidences: Tensor

    @classmethod
    def joined(cls, parts: Sequence[Candidates]) -> Candidates:
        """The candidates of all heads, one after the other."""
        boxes, confidences = zip(*((p.boxes, p.confidences) for p in parts), strict=True)
        return cls(torch.cat(boxes), torch.cat(confidences))

    def part(self, which: Tensor) -> Candidates:
        """The candidates with these indices (K,), in their order, or of a mask (M,)."""
        return Candidates(self.boxes[which], self.confidences[which])

    def placed(self, placement: Placement) -> Candidates:
        """Candidates relative to the image, whose position in the input is `placement`."""
        x, y, width, height = placement
        corner, size = self.boxes.new_tensor((x, y)), self.boxes.new_tensor((width, height))
        boxes = torch.cat(((self.boxes[:, :2] - corner) / size, self.boxes[:, 2:] / size), 1)
        return Candidates(boxes, self.confidences)

    def suppressed(self, nms: Nms | None) -> Detections:
        """Detections without boxes that overlap a kept, more confident one of the same class."""
        ordered = self
        if nms is None or not nms.per_class:
            ordered = self.part(_order(self.confidences))
        kept = ordered.confidences > 0
        if nms is not None:
            kept &= nms.kept(ordered.boxes, ordered.confidences)
        which, classes = kept.nonzero(as_tuple=True)
        left = Detections(ordered.boxes[which], classes, ordered.confidences[which, classes])
        if nms and (nms.per_class or nms.per_image):
            return left.surest(nms.per_image or None)
        return left


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
    """The NMS of the last head, as in detector.c; `thresh` replaces its own threshold."""
    return detecting_heads(network)[-1].suppression(thresh)


def box_classes(network: Network) -> int:
    """The number of classes of the heads; raises CfgError where they disagree."""
    first, *others = detecting_heads(network)
    for head in others:
        if head.classes != first.classes:
            raise head.section.error(
                f"classes={head.classes}, but the head in line {first.section.line + 1} "
                f"has {first.classes}"
            )
    return first.classes


def class_count(network: Network) -> int:
    """The classes of a detector or a classifier; raises CfgError for heads that disagree."""
    if gives_boxes(network):
        return box_classes(network)
    return network.layers[network.heads[-1]].out_shape.elements


@torch.no_grad()
def detect(
    network: Network,
    outputs: Mapping[int, Tensor],
    thresh: float,
    nms: Nms | None,
    placements: Sequence[Placement] | None = None,
) -> list[Detections]:
    """The boxes of every image of a batch whose confidence is above `thresh`.

    `outputs` are those of all heads, from Network.forward; `placements` are the positions of the
    images in the network's input, None where they fill it.
    """
    return without_overlaps(candidates(network, outputs, thresh), nms, placements)


def without_overlaps(
    images: Sequence[Candidates], nms: Nms | None, placements: Sequence[Placement] | None = None
) -> list[Detections]:
    """The detections of every image, from its candidates; see detect for `placements`."""
    if placements is not None:
        images = [
            image.placed(placement) for image, placement in zip(images, placements, strict=True)
        ]
    return [image.suppressed(nms) for image in images]


def candidates(network: Network, outputs: Mapping[int, Tensor], thresh: float) -> list[Candidates]:
    """The boxes of every image that have a confidence above `thresh` in some class.

    Boxes are relative to the network's input. Confidences up to `thresh` are 0, as in
    get_network_boxes of network.c.
    """
    box_classes(network)
    heads = [
        confident(head, head.decode(outputs[head.section.index].float()), thresh)
        for head in detecting_heads(network)
    ]
    return [Candidates.joined(parts) for parts in zip(*heads, strict=True)]


def confident(head: BoxHead, decoded: Tensor, thresh: float) -> list[Candidates]:
    """The candidates of a head for every image, from its decoded boxes (N, boxes, 5 + classes)."""
    confidences = head.confidences(decoded, thresh)
    images = zip(decoded[..., :4], confidences, (confidences > 0).any(2), strict=True)
    return [Candidates(boxes, scores).part(rows) for boxes, scores, rows in images]


def _order(confidences: Tensor) -> Tensor:
    """Darknet's order: it sorts by one class after the other, so the last class counts most."""
    keys = -confidences.T.cpu().numpy()
    return torch.from_numpy(np.lexsort(keys)).to(confidences.device)
