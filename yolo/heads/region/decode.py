"""The geometry of [region]: boxes of anchors on a grid."""

from collections.abc import Sequence

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.grid import GridHead, grid, read_anchors
from yolo.layers.base import Layer, Shape


class RegionHead(GridHead):
    """YOLOv2's head; its output is ordered as AlexeyAB's: row, column, anchor, entry."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        if section.has("tree"):
            raise section.error("tree= (a hierarchy of classes) is not supported", "tree")
        if section.integer("coords", 4) != 4:
            raise section.error("only coords=4 is supported", "coords")
        self.classes = section.integer("classes", self.usual_classes, 1)
        count = section.integer("num", 1, 1, 2**15)
        self.anchors = read_anchors(section, count)
        self.softmax = section.flag("softmax")
        self.entries = 5 + self.classes
        self.out_shape = self.inputs[0]
        self.check_channels(count, f"num={count}")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W), ordered in memory as (H, W, anchors, entries)."""
        rows = x.permute(0, 2, 3, 1).unflatten(3, (len(self.anchors), self.entries))
        box, objectness, classes = rows.split((4, 1, self.classes), 4)
        if self.softmax:
            classes = classes.softmax(4)
        return torch.cat((box, objectness.sigmoid(), classes), 4).reshape(x.shape)

    def confidences(self, decoded: Tensor, thresh: float) -> Tensor:
        if self.section.integer("classfix", 0, -(2**31)) == -1:  # get_region_boxes
            unsure = decoded[..., 4:5] < 0.5
            decoded = torch.cat((decoded[..., :5], decoded[..., 5:].masked_fill(unsure, 0)), -1)
        return super().confidences(decoded, thresh)

    def decode(self, out: Tensor) -> Tensor:
        """Output (N, C, H, W) → (N, H·W·anchors, 5 + classes)"""
        height, width = out.shape[2:]
        rows = out.reshape(out.shape[0], height, width, len(self.anchors), self.entries)
        columns_, rows_ = grid(height, width, out)
        anchors = torch.tensor(self.anchors, dtype=out.dtype, device=out.device)
        box = (
            (rows[..., 0].sigmoid() + columns_[..., None]) / width,
            (rows[..., 1].sigmoid() + rows_[..., None]) / height,
            rows[..., 2].exp() * anchors[:, 0] / width,
            rows[..., 3].exp() * anchors[:, 1] / height,
        )
        return torch.cat((torch.stack(box, -1), rows[..., 4:]), -1).flatten(1, 3)
