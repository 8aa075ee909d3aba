"""The common part of the losses of [yolo] and [Gaussian_yolo]: process_batch of yolo_layer.c."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yolo.boxes import iou
from yolo.heads.common.assign import Grid, Truths, match_anchors, rounds
from yolo.heads.common.loss import GroundTruth, HeadLoss, focal, surrogate
from yolo.heads.yolo.decode import AnchorHead
from yolo.heads.yolo.options import LossOptions

CLASS_FOUND = 0.25  # below this class probability, predictions near a truth aren't ignored


@dataclass(frozen=True)
class Rows:
    """The predictions near truths, with the deltas that are computed for them.

    `cells` (U,) are their numbers in the grid, sorted, `images` (U,) their images; `output` and
    `delta` (U, E), `boxes` (U, 4), `best` (U,) the largest IoU with a truth, `corners` (U, 2) the
    column and row of their cells, `anchors` (U, 2) sizes relative to the image, `shape` (2,) the
    map's width and height.
    """

    cells: Tensor
    images: Tensor
    output: Tensor
    delta: Tensor
    boxes: Tensor
    best: Tensor
    corners: Tensor
    anchors: Tensor
    shape: Tensor

    def find(self, cells: Tensor) -> Tensor:
        """Indices of the rows of cells."""
        return torch.searchsorted(self.cells, cells)


@dataclass(frozen=True)
class Pairs:
    """Predictions and the truths that they should find.

    `at` (K,) are rows; `truths` (K, 4), `classes` (K,) and the classes' weights, `weight` (K,).
    """

    at: Tensor
    truths: Tensor
    classes: Tensor
    weight: Tensor

    def part(self, which: Tensor) -> Pairs:
        return Pairs(self.at[which], self.truths[which], self.classes[which], self.weight[which])


class AnchorLoss:
    """Darknet's delta for a head; subclasses add the rules for coordinates and classes.

    Darknet visits every prediction, then every truth, and adds to deltas or overwrites them. Steps
    that don't depend on this order are vectorised here; the others are done in rounds().
    """

    def __init__(self, head: AnchorHead) -> None:
        self.head = head
        self.options = LossOptions.read(head.section, head.classes)
        self.objectness = head.coordinates  # the entry of the objectness, after the coordinates
        self.classes = self.objectness + 1  # the first entry of the classes

    def loss(self, x: Tensor, targets: GroundTruth, seen: int) -> HeadLoss:
        """The loss from the head's input (N, C, H, W) and the targets."""
        x = x.float()
        delta, value, parts = self.deltas(x.detach(), targets.boxes.to(x))
        if self.options.delta_normalizer != 1:  # a pass over memory that hardly any cfg needs
            delta *= self.options.delta_normalizer
        return HeadLoss(surrogate(x, delta, value), parts)

    @torch.no_grad()
    def deltas(self, x: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, dict[str, float]]:
        """Darknet's delta (N, C, H, W), the cost and its parts."""
        entries = self.head.per_anchor(x)
        out = self.head.activate(entries[:, :, : self.classes])
        truths = Truths.of(boxes, len(x))
        grid = Grid(*out.shape[:2], *out.shape[3:])
        # one plane a coordinate: the overlaps with truths are computed along the cells
        predicted = torch.stack(self.head.boxes(out)).flatten(2).movedim(0, 2)
        best = truths.best_overlap(predicted).flatten()
        near = (best > self.options.ignore_thresh).nonzero()[:, 0]
        sure = (best > self.options.truth_thresh).nonzero()[:, 0]
        cells, number = self._assigned(truths, grid, x)

        rows = self._rows(torch.cat((near, sure, cells)).unique(), entries, predicted, best, grid)
        objectness = -self.options.obj_normalizer * out[:, :, self.objectness]
        rows.delta[:, self.objectness] = objectness.flatten()[rows.cells]
        self.ignore(rows, self._probable(rows, rows.find(near)), truths)
        if len(sure):  # hardly any cfg has a truth_thresh below 1
            self._add_sure(rows, self.overlapping(rows, rows.find(sure), truths))
        assigned = self._pairs(rows.find(cells), truths, number)
        self._add_assigned(rows, assigned)
        rows.delta[:, : self.objectness] /= self.several(rows)[:, None]

        delta = torch.zeros_like(entries)
        delta[:, :, self.objectness] = objectness
        image, anchor, row, column = grid.unravel(rows.cells)
        delta[image, anchor, :, row, column] = rows.delta
        return delta.flatten(1, 2), *self._cost(delta, rows, assigned)

    def ignore(self, rows: Rows, at: Tensor, truths: Truths) -> None:
        """Change the objectness deltas of rows whose IoU with a truth is above ignore_thresh."""
        raise NotImplementedError

    def pull(self, rows: Rows, pairs: Pairs) -> Tensor:
        """The deltas (K, coordinates) that truths add to the coordinates."""
        raise NotImplementedError

    def taken(self, delta: Tensor, classes: Tensor) -> Tensor:
        """Mask (K,) of the rows whose class deltas (K, classes) another truth has set already."""
        raise NotImplementedError

    def several(self, rows: Rows) -> Tensor:
        """The number (U,) of classes of each row, by which its coordinate deltas are divided."""
        return (rows.delta[:, self.classes :] > 0).sum(1).clamp(min=1)

    def find(self, rows: Rows, at: Tensor, wanted: Tensor) -> None:
        """Set the objectness deltas of rows that are assigned to a truth."""
        rows.delta[at, self.objectness] = wanted

    def box_cost(self, rows: Rows, assigned: Pairs) -> Tensor:
        """The cost of the coordinates: squared deltas, as Darknet reports them."""
        return rows.delta[:, : self.objectness].square().sum()

    def set_classes(self, rows: Rows, pairs: Pairs) -> None:
        """Set class deltas as delta_yolo_class does, for pairs with different rows."""
        options, column, weight = self.options, pairs.classes[:, None], pairs.weight[:, None]
        output, delta = rows.output[pairs.at, self.classes :], rows.delta[pairs.at, self.classes :]
        own = (1 - options.label_smooth_eps / 2 - output.gather(1, column)) * weight
        if options.focal_loss:
            fresh = focal(output, column)
        else:
            normalizer = 1.0 if options.multipliers is None else options.cls_normalizer
            fresh = options.label_smooth_eps / 2 - output
            fresh = fresh.scatter(1, column, own * normalizer)
        again = delta.scatter(1, column, own)
        taken = self.taken(delta, pairs.classes)[:, None]
        rows.delta[pairs.at, self.classes :] = torch.where(taken, again, fresh)

    def set_certainty(self, rows: Rows, pairs: Pairs) -> None:
        """Set objectness deltas towards the squared IoU."""
        wanted = rows.best[pairs.at] ** 2 - rows.output[pairs.at, self.objectness]
        rows.delta[pairs.at, self.objectness] = self.options.obj_normalizer * wanted

    def _assigned(self, truths: Truths, grid: Grid, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cells of the anchors whose shapes fit a truth, at its centre, and the truth's number."""
        head, options = self.head, self.options
        anchors = head.relative(head.all_anchors, x)
        fits = match_anchors(truths.boxes, anchors, options.iou_thresh_kind, options.iou_thresh)
        slots = [head.mask.index(i) if i in head.mask else -1 for i in range(len(anchors))]
        slot = torch.tensor(slots, device=x.device)
        number, anchor = (fits & (slot >= 0)).nonzero(as_tuple=True)
        row, column = grid.around(head.reference(truths.boxes[number]))
        return grid.cell(truths.images[number], slot[anchor], row, column), number

    def _rows(
        self, cells: Tensor, entries: Tensor, predicted: Tensor, best: Tensor, grid: Grid
    ) -> Rows:
        image, anchor, row, column = grid.unravel(cells)
        output = entries[image, anchor, :, row, column]
        output = self.head.activate(output[None, :, :, None, None])[0, :, :, 0, 0]
        return Rows(
            cells=cells,
            images=image,
            output=output,
            delta=torch.zeros_like(output),
            boxes=predicted.flatten(0, 1)[cells],
            best=best[cells],
            corners=torch.stack((column, row), 1),
            anchors=self.head.relative(self.head.anchors, entries)[anchor],
            shape=output.new_tensor((grid.width, grid.height)),
        )

    def overlapping(self, rows: Rows, at: Tensor, truths: Truths) -> Pairs:
        """Rows with the truths that their boxes overlap most."""
        return self._pairs(at, truths, truths.nearest(rows.boxes[at], rows.images[at]))

    def _pairs(self, at: Tensor, truths: Truths, number: Tensor) -> Pairs:
        boxes, classes = truths.boxes[number], truths.classes[number]
        multipliers = self.options.multipliers
        if multipliers is None:
            return Pairs(at, boxes, classes, boxes.new_ones(len(at)))
        return Pairs(at, boxes, classes, boxes.new_tensor(multipliers)[classes])

    def _probable(self, rows: Rows, at: Tensor) -> Tensor:
        """The rows that have a probable class."""
        return at[(rows.output[at, self.classes :] > CLASS_FOUND).any(1)]

    def _add_sure(self, rows: Rows, pairs: Pairs) -> None:
        """Add the deltas of predictions whose IoU with a truth is above truth_thresh."""
        at, column = pairs.at, self.classes + pairs.classes
        self.set_classes(rows, pairs)
        if self.options.objectness_smooth:
            self.set_certainty(rows, pairs)
            wanted = rows.best[at] ** 2 - rows.output[at, column]
            rows.delta[at, column] = pairs.weight * wanted
        else:
            wanted = 1 - rows.output[at, self.objectness]
            rows.delta[at, self.objectness] = self.options.obj_normalizer * wanted
        rows.delta[at, : self.objectness] = self.pull(rows, pairs)

    def _add_assigned(self, rows: Rows, pairs: Pairs) -> None:
        """Add the deltas of predictions that are assigned to truths."""
        rows.delta[:, : self.objectness].index_add_(0, pairs.at, self.pull(rows, pairs))
        for part in map(pairs.part, rounds(pairs.at)):
            missing = 1 - rows.output[part.at, self.objectness]
            self.find(rows, part.at, part.weight * self.options.obj_normalizer * missing)
            self.set_classes(rows, part)

    def _cost(self, delta: Tensor, rows: Rows, assigned: Pairs) -> tuple[Tensor, dict[str, float]]:
        objectness = delta[:, :, self.objectness].square().sum()
        box = self.box_cost(rows, assigned)
        classes = rows.delta[:, self.classes :].square().sum()
        overlap = iou(rows.boxes[assigned.at], assigned.truths).sum() / max(len(assigned.at), 1)
        numbers = torch.stack((box, objectness, classes, overlap)).tolist()
        parts = dict(zip(("box", "objectness", "class", "iou"), numbers, strict=True))
        return box + objectness + classes, parts | {"count": float(len(assigned.at))}


def bounded(delta: Tensor, most: float) -> Tensor:
    """Deltas clamped to [−most, most], with 0 where they aren't finite."""
    return torch.where(delta.isfinite(), delta, 0).clamp(-most, most)
