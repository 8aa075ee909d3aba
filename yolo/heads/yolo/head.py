"""[yolo] and [Gaussian_yolo]"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.grid import grid
from yolo.heads.yolo.decode import AnchorHead, flat
from yolo.heads.yolo.gaussian_loss import GaussianLoss
from yolo.heads.yolo.teaching import AnchorTeaching
from yolo.heads.yolo.yolo_loss import YoloLoss
from yolo.layers.base import Layer, Shape, register

# from the point that Gaussian_yolo's x and y mean (yolo_point=) to the centre, in box sizes
POINTS = {"center": 0.0, "left_top": 0.5, "right_bottom": -0.5}


@register("yolo")
class Yolo(AnchorHead):
    """YOLOv3 and later: forward gives Darknet's output, decode the boxes."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.new_coords = section.flag("new_coords")

    @functools.cached_property
    def rule(self) -> YoloLoss:
        return YoloLoss(self)

    def teaching(self) -> AnchorTeaching:
        return AnchorTeaching(self)

    def activate(self, entries: Tensor) -> Tensor:
        """Entries with x, y, objectness and classes in [0, 1]; x and y stretched by scale_x_y."""
        xy, size, scores = entries[:, :, :2], entries[:, :, 2:4], entries[:, :, 4:]
        if not self.new_coords:
            xy, scores = xy.sigmoid(), scores.sigmoid()
        xy = xy * self.scale_x_y - (self.scale_x_y - 1) / 2
        return torch.cat((xy, size, scores), 2)

    def boxes(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centre x, y, width, height from entries 0 to 3, by exp or, with new_coords, squares."""
        columns, rows = grid(out.shape[-2], out.shape[-1], out)
        width, height = self.sizes(out)
        w, h = out[:, :, 2], out[:, :, 3]
        scale_w, scale_h = (4 * w * w, 4 * h * h) if self.new_coords else (w.exp(), h.exp())
        return (
            (out[:, :, 0] + columns) / out.shape[-1],
            (out[:, :, 1] + rows) / out.shape[-2],
            scale_w * width,
            scale_h * height,
        )

    def decode(self, out: Tensor) -> Tensor:
        """Output (N, C, H, W) → (N, anchors·H·W, 5 + classes)"""
        out = self.per_anchor(out)
        return flat(torch.cat((torch.stack(self.boxes(out), 2), out[:, :, 4:]), 2))


@register("Gaussian_yolo")
class GaussianYolo(AnchorHead):
    """Gaussian YOLOv3: every coordinate with its uncertainty."""

    coordinates = 8

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.offset = section.choice("yolo_point", "center", POINTS)

    @functools.cached_property
    def rule(self) -> GaussianLoss:
        return GaussianLoss(self)

    def teaching(self) -> AnchorTeaching:
        return AnchorTeaching(self)

    def activate(self, entries: Tensor) -> Tensor:
        """Entries in [0, 1] except the means of w and h; the means of x and y are stretched."""
        number = torch.arange(entries.shape[2], device=entries.device)[:, None, None]
        out = torch.where((number == 4) | (number == 6), entries, entries.sigmoid())
        moved = out * self.scale_x_y - (self.scale_x_y - 1) / 2
        return torch.where((number == 0) | (number == 2), moved, out)

    def boxes(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centre x, y, width, height from the means, entries 0, 2, 4 and 6."""
        columns, rows = grid(out.shape[-2], out.shape[-1], out)
        width, height = self.sizes(out)
        w, h = out[:, :, 4].exp() * width, out[:, :, 6].exp() * height
        return (
            (out[:, :, 0] + columns) / out.shape[-1] + self.offset * w,
            (out[:, :, 2] + rows) / out.shape[-2] + self.offset * h,
            w,
            h,
        )

    def decode(self, out: Tensor) -> Tensor:
        """Output (N, C, H, W) → (N, anchors·H·W, 5 + classes)

        Objectness is multiplied by the mean certainty of the box (gaussian_yolo_layer.c).
        """
        out = self.per_anchor(out)
        box = (*self.boxes(out), out[:, :, 8] * (1 - out[:, :, 1:8:2].mean(2)))
        return flat(torch.cat((torch.stack(box, 2), out[:, :, 9:]), 2))
