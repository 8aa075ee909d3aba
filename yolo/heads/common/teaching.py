"""Distillation of a head: the traits that it must share with its teacher's, and the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from yolo.heads.common.assign import Grid, match_anchors

OUTPUT, BOUNDED, BOTH = FORMS = ("output", "bounded", "both")

Shown = TypeVar("Shown")  # the input of a head, split by meaning


class Teaching(Generic[Shown]):
    """The distillation of a head from a teacher's head of the same kind.

    `traits` describe in words where both must be equal; `forms` are the supported ones of FORMS.
    """

    forms: ClassVar[tuple[str, ...]] = (OUTPUT,)

    @property
    def traits(self) -> Sequence[str]:
        """Sentences that begin with a verb: "has 20 classes"."""
        raise NotImplementedError

    def shown(self, x: Tensor) -> Shown:
        """The head's input (N, C, H, W), split by meaning."""
        raise NotImplementedError

    def output(self, student: Shown, teacher: Shown, temperature: float) -> Tensor:
        """The loss of a student that should give its teacher's output, summed over the images."""
        raise NotImplementedError

    def bounded(self, student: Shown, teacher: Shown, boxes: Tensor, margin: float) -> Tensor:
        """The loss of predictions of truths (M, 6) not better than the teacher's by `margin`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Entries:
    """The input of a head of boxes, split by meaning: (N, anchors, …, H, W).

    `coordinates` as in Darknet's loss: centres in cells, logarithms of sizes relative to anchors;
    `objectness` (N, anchors, H, W) and `classes` are logits.
    """

    coordinates: Tensor
    objectness: Tensor
    classes: Tensor

    @property
    def means(self) -> Tensor:
        """Coordinates without the uncertainty that follows each in Gaussian_yolo."""
        return self.coordinates[:, :, :: self.coordinates.shape[2] // 4]


Cells = tuple[Tensor, Tensor, Tensor, Tensor]  # image, anchor, row, column


class BoxTeaching(Teaching[Entries]):
    """The distillation of a head with anchors on a grid."""

    forms = FORMS

    def output(self, student: Entries, teacher: Entries, temperature: float) -> Tensor:
        sure = teacher.objectness.sigmoid()
        boxes = (student.coordinates - teacher.coordinates).square().sum(2) / 2
        classes = self.class_loss(student.classes, teacher.classes, temperature)
        objectness = logistic(student.objectness, teacher.objectness)
        return (objectness + sure * (boxes + classes)).sum()

    def bounded(self, student: Entries, teacher: Entries, boxes: Tensor, margin: float) -> Tensor:
        at, wanted = self._assigned(student.objectness, boxes)
        errors = [
            (entries.means.movedim(2, 4)[at] - wanted).square().sum(1)
            for entries in (student, teacher)
        ]
        worse = errors[0].detach() + margin > errors[1]
        return (errors[0] * worse).sum() / 2

    def class_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Loss (N, anchors, H, W) of the logits of classes (N, anchors, classes, H, W)."""
        raise NotImplementedError

    def anchors(self, like: Tensor) -> tuple[Tensor, list[int]]:
        """All anchors relative to the image (A, 2), and the indices of the head's own.

        `like` (…, H, W) is a map of the head.
        """
        raise NotImplementedError

    def points(self, boxes: Tensor) -> Tensor:
        """Points (K, 2) of boxes (K, 4) whose cells should find them."""
        return boxes[:, :2]

    def sizes(self, times: Tensor) -> Tensor:
        """Coordinates of the sizes of boxes that are `times` (K, 2) as large as their anchors."""
        return times.log()

    def _assigned(self, like: Tensor, targets: Tensor) -> tuple[Cells, Tensor]:
        """The predictions assigned to truths, as indices, and the truths' coordinates (K, 4).

        The anchor is the one of the most similar shape; truths whose anchor belongs to another head
        are left out. `like` is (N, anchors, H, W).
        """
        targets = targets[(targets[:, 4:] > 0).all(1)]
        boxes, shape = targets[:, 2:], targets.new_tensor((like.shape[3], like.shape[2]))
        anchors, mask = self.anchors(like.to(targets))
        points = self.points(boxes)
        slot = torch.tensor([mask.index(i) if i in mask else -1 for i in range(len(anchors))])
        slot = slot.to(targets.device)
        number, anchor = (match_anchors(boxes, anchors, "iou", 1.0) & (slot >= 0)).nonzero(
            as_tuple=True
        )
        row, column = Grid(*like.shape).around(points[number])
        sizes = self.sizes(boxes[number, 2:] / anchors[anchor])
        centres = points[number] * shape - torch.stack((column, row), 1)
        at = targets[number, 0].long(), slot[anchor], row, column
        return at, torch.cat((centres, sizes), 1)


def logistic(student: Tensor, teacher: Tensor) -> Tensor:
    """The divergence of two logistics from their logits, element by element."""
    target = teacher.sigmoid()
    cross, entropy = (
        F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        for logits in (student, teacher)
    )
    return cross - entropy


def softened(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² times the divergence of two softmaxes from their logits: (N, K, classes, …)."""
    mine, its = (logits / temperature for logits in (student, teacher))
    target = its.log_softmax(2)
    divergence = F.kl_div(mine.log_softmax(2), target, reduction="none", log_target=True)
    return divergence.sum(2) * temperature**2
