"""[yolo] and [Gaussian_yolo]"""

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.anchor_loss import AnchorLoss
from yolo.heads.base import BoxHead
from yolo.heads.gaussian_loss import GaussianLoss
from yolo.heads.yolo_loss import YoloLoss
from yolo.layers.base import Layer, Shape, register
from yolo.nms import Nms


def read_anchors(section: Section, count: int) -> list[tuple[float, float]]:
    """`count` anchors (width, height); the ones that a cfg doesn't give are 0.5, as in Darknet."""
    values = list(section.numbers("anchors", ()))[: 2 * count]
    values += [0.5] * (2 * count - len(values))
    return list(zip(values[::2], values[1::2], strict=True))


def grid(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Column and row of every cell: (1, W) and (H, 1)."""
    columns = torch.arange(width, dtype=like.dtype, device=like.device)
    rows = torch.arange(height, dtype=like.dtype, device=like.device)
    return columns[None], rows[:, None]


GREEDY_EXPONENT = 0.6  # box_diou of box.c, whatever beta_nms says
# where a box of Gaussian_yolo's yolo_point lies from its centre, in box sizes
POINTS = {"center": 0.0, "left_top": 0.5, "right_bottom": -0.5}


class AnchorHead(BoxHead):
    """Boxes on a grid from the anchors that `mask` names."""

    coordinates = 4
    new_coords = False
    offset = 0.0
    loss_rule: type[AnchorLoss]

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        if section.has("counters_per_class"):
            section.integers("counters_per_class")
        self.image = image
        self.classes = section.integer("classes", self.usual_classes, 1)
        total = section.integer("num", 1, 1, 2**15)
        self.mask = section.integers("mask", tuple(range(total)))
        self.scale_x_y = section.number("scale_x_y", 1.0)
        self.all_anchors = read_anchors(section, total)
        self.anchors = self._anchors(total)
        self.entries = self.coordinates + 1 + self.classes
        self.out_shape = self.inputs[0]
        self.check_channels(len(self.mask), f"{len(self.mask)} anchors")

    def per_anchor(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, anchors, entries, H, W)"""
        return x.unflatten(1, (len(self.mask), self.entries))

    def relative(self, anchors: Sequence[tuple[float, float]], x: Tensor) -> Tensor:
        """Widths and heights of anchors relative to the image, for a map (…, H, W): (K, 2).

        The image may have another size than [net] gives: its cells are as large as in [net].
        """
        width = self.image.width / self.out_shape.width * x.shape[-1]
        height = self.image.height / self.out_shape.height * x.shape[-2]
        return x.new_tensor(anchors) / x.new_tensor((width, height))

    def sizes(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Widths and heights of its anchors relative to the image: (anchors, 1, 1) each."""
        width, height = self.relative(self.anchors, out).unbind(1)
        return width[:, None, None], height[:, None, None]

    def activate(self, entries: Tensor) -> Tensor:
        """The first entries of every anchor (N, anchors, …, H, W) as forward gives them."""
        raise NotImplementedError

    def boxes(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centre x, y, width, height relative to the image: (N, anchors, H, W) each.

        `out` (N, anchors, …, H, W) are activated entries, at least all of the coordinates.
        """
        raise NotImplementedError

    def reference(self, boxes: Tensor) -> Tensor:
        """The points of boxes (K, 4) whose cells are to find them: (K, 2)."""
        return boxes[:, :2] - self.offset * boxes[:, 2:]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W): Darknet's output"""
        return self.activate(self.per_anchor(x)).flatten(1, 2)

    @functools.cached_property
    def rule(self) -> AnchorLoss:
        """How it learns; raises CfgError for keys that it can't be trained with."""
        return self.loss_rule(self)

    def confidences(self, decoded: Tensor, thresh: float) -> Tensor:
        return super().confidences(decoded, thresh) * (decoded[..., 4:5] > thresh)

    def suppression(self, thresh: float | None = None) -> Nms:
        """Plain IoU for an unknown nms_kind=, too (parser.c)."""
        asked = super().suppression(thresh)
        kind = self.section.text("nms_kind") if self.section.has("nms_kind") else ""
        exponents = {"greedynms": GREEDY_EXPONENT, "diounms": self.section.number("beta_nms", 0.6)}
        return replace(asked, exponent=exponents.get(kind))

    def _anchors(self, total: int) -> list[tuple[float, float]]:
        section = self.section
        given = len(section.numbers("anchors")) // 2 if section.has("anchors") else total
        for number in self.mask:
            if not 0 <= number < min(total, given):
                raise section.error(
                    f"mask={section.text('mask')}: anchor {number} is beyond the "
                    f"{min(total, given)} that num= and anchors= give",
                    "mask",
                )
        return [self.all_anchors[number] for number in self.mask]


def flat(boxes: Tensor) -> Tensor:
    """(N, anchors, entries, H, W) → (N, anchors·H·W, entries)"""
    return boxes.permute(0, 1, 3, 4, 2).flatten(1, 3)


@register("yolo")
class Yolo(AnchorHead):
    """YOLOv3 and later: forward gives Darknet's output, decode the boxes."""

    loss_rule = YoloLoss

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.new_coords = section.flag("new_coords")

    def activate(self, entries: Tensor) -> Tensor:
        """x, y, objectness and classes in [0, 1], but x and y stretched by scale_x_y"""
        xy, size, rest = entries[:, :, :2], entries[:, :, 2:4], entries[:, :, 4:]
        if not self.new_coords:
            xy, rest = xy.sigmoid(), rest.sigmoid()
        xy = xy * self.scale_x_y - (self.scale_x_y - 1) / 2
        return torch.cat((xy, size, rest), 2)

    def boxes(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
    loss_rule = GaussianLoss

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.offset = section.choice("yolo_point", "center", POINTS)

    def activate(self, entries: Tensor) -> Tensor:
        """All but the means of w and h in [0, 1], but the means of x and y stretched."""
        number = torch.arange(entries.shape[2], device=entries.device)[:, None, None]
        out = torch.where((number == 4) | (number == 6), entries, entries.sigmoid())
        moved = out * self.scale_x_y - (self.scale_x_y - 1) / 2
        return torch.where((number == 0) | (number == 2), moved, out)

    def boxes(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
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
