"""Distillation of [yolo] and [Gaussian_yolo]."""

from collections.abc import Sequence

from torch import Tensor

from yolo.heads.common.grid import grid_traits
from yolo.heads.common.teaching import BoxTeaching, Entries, logistic
from yolo.heads.yolo.decode import AnchorHead

NEAREST = 1e-6  # least distance of probabilities from 0 and 1 before they become logits


class AnchorTeaching(BoxTeaching):
    """The distillation of [yolo] and [Gaussian_yolo]: a logistic for each class."""

    def __init__(self, head: AnchorHead) -> None:
        self.head = head

    @property
    def traits(self) -> Sequence[str]:
        head = self.head
        return grid_traits(
            head, scale_x_y=head.scale_x_y, new_coords=head.new_coords, offset=head.offset
        )

    def shown(self, x: Tensor) -> Entries:
        """The input, split by meaning; the probabilities of new_coords=1 become logits."""
        entries = x.unflatten(1, (-1, self.head.entries))
        first = self.head.coordinates
        coordinates, logits = self.head.activate(entries[:, :, :first]), entries[:, :, first:]
        if self.head.new_coords:
            logits = logits.logit(NEAREST)
        return Entries(coordinates, logits[:, :, 0], logits[:, :, 1:])

    def class_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return logistic(student, teacher).sum(2)

    def anchors(self, like: Tensor) -> tuple[Tensor, list[int]]:
        return self.head.relative(self.head.all_anchors, like), list(self.head.mask)

    def points(self, boxes: Tensor) -> Tensor:
        return self.head.reference(boxes)

    def sizes(self, times: Tensor) -> Tensor:
        return (times / 4).sqrt() if self.head.new_coords else times.log()
