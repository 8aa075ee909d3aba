"""The loss of [region]: forward_region_layer of region_layer.c, vectorised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yolo.boxes import iou
from yolo.cfg import Section
from yolo.heads.common.assign import Grid, Truths
from yolo.heads.common.loss import GroundTruth, HeadLoss, focal, surrogate
from yolo.heads.region.decode import RegionHead

WARM_UP = 12800  # images in which all boxes are also pulled towards their anchors
WARM_UP_SCALE = 0.01


@dataclass(frozen=True)
class RegionOptions:
    """Keys of the section, with parser.c's defaults."""

    thresh: float
    coord_scale: float
    object_scale: float
    noobject_scale: float
    class_scale: float
    classfix: int
    rescore: bool
    bias_match: bool
    focal_loss: bool

    @classmethod
    def read(cls, section: Section) -> RegionOptions:
        """The keys of a section; raises CfgError for invalid values and unsupported keys."""
        if section.has("map"):
            raise section.error("map= (other class numbers) is not supported in training", "map")
        return cls(
            thresh=section.number("thresh", 0.5),
            coord_scale=section.number("coord_scale", 1.0),
            object_scale=section.number("object_scale", 1.0),
            noobject_scale=section.number("noobject_scale", 1.0),
            class_scale=section.number("class_scale", 1.0),
            classfix=section.integer("classfix", 0, -1, 2),
            rescore=section.flag("rescore"),
            bias_match=section.flag("bias_match"),
            focal_loss=section.flag("focal_loss"),
        )


@dataclass(frozen=True)
class Maps:
    """The predictions of a head for N images with P = anchors · H · W boxes each.

    `output` (N·P, 5 + classes): x, y and objectness after the logistic; `boxes` (N, P, 4).
    """

    output: Tensor
    boxes: Tensor
    grid: Grid

    @property
    def slope(self) -> Tensor:
        """The logistic's derivative at the objectness: (N·P,)."""
        return self.output[:, 4] * (1 - self.output[:, 4])


class RegionLoss:
    """Darknet's deltas: all predictions learn "no object", then truths overwrite theirs."""

    def __init__(self, head: RegionHead) -> None:
        self.head = head
        self.options = RegionOptions.read(head.section)

    def loss(self, x: Tensor, targets: GroundTruth, seen: int) -> HeadLoss:
        """The loss from the head's input (N, C, H, W), the targets, and the images seen so far."""
        x = x.float()
        delta, parts = self.deltas(x.detach(), targets.boxes.to(x), seen)
        return HeadLoss(surrogate(x, delta, delta.square().sum()), parts)

    @torch.no_grad()
    def deltas(self, x: Tensor, boxes: Tensor, seen: int) -> tuple[Tensor, dict[str, float]]:
        """Darknet's delta (N, C, H, W) and the parts of its cost."""
        maps = self._maps(x)
        truths = Truths.of(boxes, len(x))
        delta = torch.zeros_like(maps.output)
        if seen < WARM_UP:
            delta[:, :4] = self._towards_anchors(maps)
        self._add_background(delta, maps, truths)
        cells = self._cells(maps, truths)
        overlap = iou(maps.boxes.flatten(0, 1)[cells], truths.boxes)
        self._add_truths(delta, maps, truths, cells, overlap)
        squares = delta.square().sum(0)
        mean = overlap.sum() / max(len(truths), 1)
        parts = torch.stack((squares[:4].sum(), squares[4], squares[5:].sum(), mean)).tolist()
        names = dict(zip(("box", "objectness", "class", "iou"), parts, strict=True))
        shape = (len(x), maps.grid.anchors, *x.shape[2:], self.head.entries)
        delta = delta.reshape(shape).movedim(4, 2).flatten(1, 2)
        return delta.contiguous(), names | {"count": float(len(truths))}

    def _maps(self, x: Tensor) -> Maps:
        images, _, height, width = x.shape
        grid = Grid(images, len(self.head.anchors), height, width)
        entries = x.unflatten(1, (grid.anchors, -1)).movedim(2, 4).reshape(-1, self.head.entries)
        xy, size, objectness, classes = entries.split((2, 2, 1, self.head.classes), 1)
        if self.head.softmax:
            classes = classes.softmax(1)
        output = torch.cat((xy.sigmoid(), size, objectness.sigmoid(), classes), 1)
        _, anchor, row, column = grid.unravel(torch.arange(len(output), device=x.device))
        shape = x.new_tensor((width, height))
        centres = (output[:, :2] + torch.stack((column, row), 1)) / shape
        sizes = output[:, 2:4].exp() * x.new_tensor(self.head.anchors)[anchor] / shape
        boxes = torch.cat((centres, sizes), 1).T.contiguous().T
        return Maps(output, boxes.unflatten(0, (images, -1)), grid)

    def _towards_anchors(self, maps: Maps) -> Tensor:
        """Deltas towards the middle of the cell and the anchor's size."""
        xy, size = maps.output[:, :2], maps.output[:, 2:4]
        return WARM_UP_SCALE * torch.cat(((0.5 - xy) * xy * (1 - xy), -size), 1)

    def _add_background(self, delta: Tensor, maps: Maps, truths: Truths) -> None:
        options, objectness = self.options, maps.output[:, 4]
        best = truths.best_overlap(maps.boxes).flatten()
        if options.classfix == -1:
            delta[:, 4] = options.noobject_scale * (best - objectness) * maps.slope
            return
        near = best > options.thresh
        delta[:, 4] = torch.where(near, 0, -options.noobject_scale * objectness * maps.slope)
        if options.classfix:
            cells = near.nonzero()[:, 0]
            image = maps.grid.unravel(cells)[0]
            number = truths.nearest(maps.boxes.flatten(0, 1)[cells], image)
            scale = objectness[cells, None] if options.classfix == 2 else 1
            delta[cells, 5:] = scale * self._class_delta(maps.output[cells], truths.classes[number])

    def _cells(self, maps: Maps, truths: Truths) -> Tensor:
        """The prediction assigned to each truth: at its centre, of the most similar shape."""
        grid = maps.grid
        row, column = grid.around(truths.boxes[:, :2])
        anchor = torch.arange(grid.anchors, device=row.device)
        cells = grid.cell(truths.images[:, None], anchor, row[:, None], column[:, None])
        if self.options.bias_match:
            shape = truths.boxes.new_tensor((grid.width, grid.height))
            sizes = truths.boxes.new_tensor(self.head.anchors).expand(*cells.shape, 2) / shape
        else:
            sizes = maps.boxes.flatten(0, 1)[cells][..., 2:]
        shapes = torch.cat((torch.zeros_like(sizes), sizes), -1)
        truth = truths.boxes.clone()
        truth[:, :2] = 0
        best = iou(shapes, truth[:, None]).argmax(1)
        return cells.gather(1, best[:, None])[:, 0]

    def _add_truths(
        self, delta: Tensor, maps: Maps, truths: Truths, cells: Tensor, overlap: Tensor
    ) -> None:
        """Overwrite the deltas of assigned predictions; the last of several truths counts."""
        options = self.options
        cells, order = cells.sort(stable=True)
        last = order[torch.cat((cells[1:] != cells[:-1], cells.new_ones(min(len(cells), 1)) > 0))]
        cells = cells.unique_consecutive()
        output, truth = maps.output[cells], truths.boxes[last]
        _, anchor, row, column = maps.grid.unravel(cells)
        shape = truth.new_tensor((maps.grid.width, maps.grid.height))
        xy = truth[:, :2] * shape - torch.stack((column, row), 1)
        size = (truth[:, 2:] * shape / truth.new_tensor(self.head.anchors)[anchor]).log()
        slope = output[:, :2] * (1 - output[:, :2])
        move = torch.cat(((xy - output[:, :2]) * slope, size - output[:, 2:4]), 1)
        delta[cells, :4] = options.coord_scale * move
        wanted = overlap[last] if options.rescore else 1
        delta[cells, 4] = options.object_scale * (wanted - output[:, 4]) * maps.slope[cells]
        delta[cells, 5:] = self._class_delta(output, truths.classes[last])

    def _class_delta(self, output: Tensor, classes: Tensor) -> Tensor:
        classes, probabilities = classes[:, None], output[:, 5:]
        if self.options.focal_loss:
            return self.options.class_scale * focal(probabilities, classes)
        wanted = torch.zeros_like(probabilities).scatter(1, classes, 1.0)
        return self.options.class_scale * (wanted - probabilities)
