"""From the heads' outputs to boxes: candidates and non-maximum suppression, as Darknet does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yolo.boxes import iou
from yolo.cfg import Section
from yolo.datasets.images import Placement
from yolo.errors import DarknetError
from yolo.heads.detection import Detection
from yolo.heads.region import Region
from yolo.heads.yolo import GaussianYolo, Yolo
from yolo.network import Network

BoxHead = Yolo | GaussianYolo | Region | Detection
LARGEST = 2**22  # numbers in a temporary tensor
GREEDY_EXPONENT = 0.6  # box_diou of box.c, whatever beta_nms says


@dataclass(frozen=True)
class Nms:
    """Boxes of one class that overlap by more than `thresh` are one object.

    The overlap is IoU, with an exponent DIoU whose penalty is raised to it.
    """

    thresh: float = 0.45
    exponent: float | None = None

    @classmethod
    def of(cls, network: Network, thresh: float = 0.45) -> Nms:
        """What the last head asks for with nms_kind and beta_nms (detector.c)."""
        return cls(thresh, _exponent(box_heads(network)[-1].section))

    def pairs(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """The pairs (a, b), a < b, of boxes (M, 4) that overlap."""
        step = max(1, LARGEST // max(len(boxes), 1))
        found = [boxes.new_zeros(0, 2, dtype=torch.long)]
        for start in range(0, len(boxes), step):
            rows = boxes[start : start + step, None]
            found.append((iou(rows, boxes[None, start:]) > self.thresh).triu(1).nonzero() + start)
        a, b = torch.cat(found).unbind(1)
        if self.exponent is None:
            return a, b
        closer = iou(boxes[a], boxes[b], "diou", self.exponent) > self.thresh
        return a[closer], b[closer]


@dataclass(frozen=True)
class Detections:
    """What was found in an image, in Darknet's order.

    `boxes` (M, 4) are centre x, y, width, height relative to the image, `classes` (M,) int64,
    `confidences` (M,) objectness · probability. A box is there once for each of its classes.
    """

    boxes: Tensor
    classes: Tensor
    confidences: Tensor

    def __len__(self) -> int:
        return len(self.classes)


def gives_boxes(network: Network) -> bool:
    """Whether the network is a detector."""
    return any(isinstance(layer, BoxHead) for layer in network.layers)


def box_heads(network: Network) -> list[BoxHead]:
    """The heads that give boxes; raises DarknetError where there is none."""
    heads = [layer for layer in network.layers if isinstance(layer, BoxHead)]
    if not heads:
        raise DarknetError(f"{network.cfg.path}: has no head that gives boxes")
    return heads


def box_classes(network: Network) -> int:
    """How many classes the heads know; raises CfgError where they disagree."""
    first, *others = box_heads(network)
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
        for head in box_heads(network)
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
    order = _order(confidences)
    boxes, confidences = boxes[order], confidences[order]
    found = confidences > 0
    if nms is not None:
        found &= _kept(boxes, confidences, nms)
    which, classes = found.nonzero(as_tuple=True)
    return Detections(boxes[which], classes, confidences[which, classes])


def _exponent(section: Section) -> float | None:
    """None for plain IoU: that's what Darknet takes an unknown kind for, too (parser.c)."""
    if section.type not in ("yolo", "Gaussian_yolo") or not section.has("nms_kind"):
        return None
    beta = section.number("beta_nms", 0.6)
    return {"greedynms": GREEDY_EXPONENT, "diounms": beta}.get(section.text("nms_kind"))


def _confident(head: BoxHead, decoded: Tensor, thresh: float) -> list[tuple[Tensor, Tensor]]:
    """Per image boxes (M, 4) and confidences (M, classes) of one head."""
    objectness = decoded[..., 4:5]
    if isinstance(head, Region) and head.section.integer("classfix", 0, -(2**31)) == -1:
        objectness = torch.where(objectness < 0.5, 0, objectness)  # get_region_boxes
    confidences = objectness * decoded[..., 5:]
    confident = confidences > thresh
    if isinstance(head, Yolo | GaussianYolo):
        confident &= objectness > thresh
    confidences = torch.where(confident, confidences, 0)
    any_ = confident.any(2)
    return [
        (image[rows, :4], confidence[rows])
        for image, confidence, rows in zip(decoded, confidences, any_, strict=True)
    ]


def _order(confidences: Tensor) -> Tensor:
    """Darknet's: it sorts the boxes by each class in turn, so the last class counts first."""
    keys = -confidences.T.cpu().numpy()
    return torch.from_numpy(np.lexsort(keys)).to(confidences.device)


def _kept(boxes: Tensor, confidences: Tensor, nms: Nms) -> Tensor:
    """(M, classes): whether no better box of the class that is kept overlaps the box."""
    a, b = nms.pairs(boxes)
    kept = torch.ones_like(confidences, dtype=torch.bool)
    step = max(1, LARGEST // max(len(a), 1))
    for start in range(0, confidences.shape[1], step):
        some = slice(start, start + step)
        kept[:, some] = _kept_of_pairs(confidences[:, some], a, b)
    return kept


def _kept_of_pairs(confidences: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """As _kept, from the pairs (a, b) of boxes that overlap.

    Starting with all, every pass is right for one more box down each chain of overlaps.
    """
    one, other = confidences[a], confidences[b]
    pair, column = ((one > 0) & (other > 0)).nonzero(as_tuple=True)
    a_first = one[pair, column] >= other[pair, column]
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
