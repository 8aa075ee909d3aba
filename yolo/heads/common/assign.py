"""Assignment of truths to the cells and anchors that should find them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yolo.boxes import iou

# elements of one piece of the matrix of overlaps: on a CPU what its caches hold
PIECE, PIECE_ON_DEVICE = 2**15, 2**24


@dataclass(frozen=True)
class Truths:
    """The boxes of a batch, ordered by image: M boxes, at most T in one of N images.

    `boxes` (M, 4), `classes` (M,), `images` (M,); `padded` (N, T, 4) holds empty boxes where an
    image has less than T, `number` (N, T) is the index of each among the M.
    """

    boxes: Tensor
    classes: Tensor
    images: Tensor
    padded: Tensor
    number: Tensor

    @classmethod
    def of(cls, boxes: Tensor, images: int) -> Truths:
        """Truths from boxes (M, 6) as in GroundTruth; the order within an image is kept."""
        image = boxes[:, 0].long()
        image, order = image.sort(stable=True)
        counts = torch.bincount(image, minlength=images)
        most = int(counts.max()) if len(boxes) else 0
        index = torch.arange(len(boxes), device=boxes.device)
        column = index - (counts.cumsum(0) - counts)[image]
        boxes = boxes[order]
        padded = boxes.new_zeros(images, most, 4)
        padded[image, column] = boxes[:, 2:]
        number = torch.zeros(images, most, dtype=torch.long, device=boxes.device)
        number[image, column] = index
        return cls(boxes[:, 2:], boxes[:, 1].long(), image, padded, number)

    def __len__(self) -> int:
        return len(self.boxes)

    def best_overlap(self, predicted: Tensor) -> Tensor:
        """The largest IoU of predicted boxes (N, P, 4) with a truth of their image: (N, P)."""
        images, count = predicted.shape[:2]
        most = self.padded.shape[1]
        if not most:
            return predicted.new_zeros(images, count)
        limit = PIECE if predicted.device.type == "cpu" else PIECE_ON_DEVICE
        pieces = predicted.split(max(limit // (images * most), 1), 1)
        truths = self.padded[:, :, None]
        return torch.cat([iou(piece[:, None], truths).amax(1) for piece in pieces], 1)

    def nearest(self, predicted: Tensor, image: Tensor) -> Tensor:
        """Number of the truth with the largest IoU, the first of equal ones: (K, 4) → (K,)."""
        if not len(image):
            return image
        column = iou(predicted[:, None], self.padded[image]).argmax(1)
        return self.number[image, column]


@dataclass(frozen=True)
class Grid:
    """The shape of a head's map: a cell's number counts images, anchors, rows and columns."""

    images: int
    anchors: int
    height: int
    width: int

    def cell(self, image: Tensor, anchor: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return ((image * self.anchors + anchor) * self.height + row) * self.width + column

    def unravel(self, cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image, anchor, row and column of cells."""
        row, column = cell // self.width, cell % self.width
        anchor, row = row // self.height, row % self.height
        return anchor // self.anchors, anchor % self.anchors, row, column

    def around(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of the cells that contain points (K, 2) in [0, 1]."""
        # a point on the right or lower edge of the image belongs to the last cell
        column = (points[:, 0] * self.width).long().clamp(0, self.width - 1)
        return (points[:, 1] * self.height).long().clamp(0, self.height - 1), column


def match_anchors(truths: Tensor, anchors: Tensor, kind: str, threshold: float) -> Tensor:
    """Mask (M, A) of the anchors (A, 2) that should find truths (M, 4), by their shapes alone.

    For each truth that is the anchor with the largest IoU and, with a threshold below 1, all whose
    IoU is above it.
    """
    sizes = torch.cat((torch.zeros_like(truths[:, :2]), truths[:, 2:]), 1)[:, None]
    shapes = torch.cat((torch.zeros_like(anchors), anchors), 1)[None]
    best = iou(shapes, sizes).argmax(1)
    fits = torch.nn.functional.one_hot(best, len(anchors)).bool()
    if threshold < 1:
        fits |= iou(shapes, sizes, kind) > threshold
    return fits


def rounds(cells: Tensor) -> list[Tensor]:
    """Split cells (K,) into parts without duplicates; the k-th of equal cells is in the k-th part.

    Truths that share a cell must be processed in their order.
    """
    if not len(cells):
        return []
    ordered, order = cells.sort(stable=True)
    rank = torch.empty_like(cells)
    rank[order] = torch.arange(len(cells), device=cells.device) - torch.searchsorted(
        ordered, ordered
    )
    return [(rank == k).nonzero()[:, 0] for k in range(int(rank.max()) + 1)]
