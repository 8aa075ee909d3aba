"""[detection]"""

from collections.abc import Sequence

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.base import BoxHead
from yolo.heads.common.grid import grid
from yolo.heads.common.loss import LossRule
from yolo.layers.base import Layer, Shape, register


@register("detection")
class Detection(BoxHead):
    """YOLOv1's head: classes of all cells, then objectness, then boxes."""

    usual_classes = 1

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.classes = section.integer("classes", self.usual_classes, 1)
        self.count = section.integer("num", 1, 1)
        self.side = section.integer("side", 7, 1, 2**15)
        self.softmax = section.flag("softmax")
        self.sqrt = section.flag("sqrt")
        if section.integer("coords", 1) != 4:
            raise section.error("only coords=4 is supported", "coords")
        self.out_shape = self.inputs[0]
        expected = self.side**2 * (self.count * 5 + self.classes)
        if self.out_shape.elements != expected:
            raise section.error(
                f"side={self.side}, num={self.count}, classes={self.classes} need {expected} "
                f"numbers before it, but get {self.out_shape.elements}"
            )

    @property
    def rule(self) -> LossRule:
        """None: raises CfgError."""
        raise self.section.error("can't be trained here: YOLOv1's loss is not supported")

    def widths(self, classes: int) -> dict[int, int]:
        """Channels for another number of classes, which belong to cells, not to boxes."""
        return {self.sources[0]: self.inputs[0].channels + (classes - self.classes) * self.side**2}

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)"""
        if not self.softmax:
            return x
        flat = x.flatten(1)
        end = self.side**2 * self.classes
        classes = flat[:, :end].unflatten(1, (-1, self.classes)).softmax(2).flatten(1)
        return torch.cat((classes, flat[:, end:]), 1).reshape(x.shape)

    def decode(self, out: Tensor) -> Tensor:
        """Output → (N, side·side·num, 5 + classes)"""
        cells, side = self.side**2, self.side
        flat = out.flatten(1)
        classes, objectness, box = flat.split(
            (cells * self.classes, cells * self.count, cells * self.count * 4), 1
        )
        box = box.reshape(-1, side, side, self.count, 4)
        columns, rows = grid(side, side, out)
        size = box[..., 2:] ** 2 if self.sqrt else box[..., 2:]
        x, y = box[..., 0] + columns[..., None], box[..., 1] + rows[..., None]
        centre = torch.stack((x / side, y / side), -1)
        classes = classes.reshape(-1, side, side, 1, self.classes).expand(
            -1, -1, -1, self.count, -1
        )
        objectness = objectness.reshape(-1, side, side, self.count, 1)
        return torch.cat((centre, size, objectness, classes), -1).flatten(1, 3)
