"""The geometry of [yolo] and [Gaussian_yolo]: boxes of anchors on a grid."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.grid import GridHead, read_anchors
from yolo.layers.base import Layer, Shape
from yolo.nms import Nms

GREEDY_EXPONENT = 0.6  # box_diou of box.c, which ignores beta_nms=


class AnchorHead(GridHead):
    """Boxes on a grid from the anchors that `mask` names."""

    new_coords = False
    offset = 0.0

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

        The image may have another size than in [net]; cells have the same size in pixels.
        """
        width = self.image.width / self.out_shape.width * x.shape[-1]
        height = self.image.height / self.out_shape.height * x.shape[-2]
        return x.new_tensor(anchors) / x.new_tensor((width, height))

    def sizes(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Widths and heights of its anchors relative to the image: (anchors, 1, 1) each."""
        width, height = self.relative(self.anchors, out).unbind(1)
        return width[:, None, None], height[:, None, None]

    def activate(self, entries: Tensor) -> Tensor:
        """Activated entries (N, anchors, …, H, W), of all or only the first of every anchor."""
        raise NotImplementedError

    def boxes(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Centre x, y, width, height relative to the image: (N, anchors, H, W) each.

        `out` (N, anchors, …, H, W) are activated entries, at least all of the coordinates.
        """
        raise NotImplementedError

    def reference(self, boxes: Tensor) -> Tensor:
        """Points (K, 2) of boxes (K, 4) whose cells should find them."""
        return boxes[:, :2] - self.offset * boxes[:, 2:]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W): Darknet's output"""
        return self.activate(self.per_anchor(x)).flatten(1, 2)

    def confidences(self, decoded: Tensor, thresh: float) -> Tensor:
        return super().confidences(decoded, thresh) * (decoded[..., 4:5] > thresh)

    def suppression(self, thresh: float | None = None) -> Nms:
        """The NMS of the section; an unknown nms_kind= means plain IoU, as in parser.c."""
        asked = super().suppression(thresh)
        kind = self.section.text("nms_kind") if self.section.has("nms_kind") else ""
        exponents = {"greedynms": GREEDY_EXPONENT, "diounms": self.section.number("beta_nms", 0.6)}
        return replace(asked, exponent=exponents.get(kind))

    def _anchors(self, total: int) -> list[tuple[float, float]]:
        section = self.section
        listed = len(section.numbers("anchors")) // 2 if section.has("anchors") else total
        for number in self.mask:
            if not 0 <= number < min(total, listed):
                raise section.error(
                    f"mask={section.text('mask')}: anchor {number} is beyond the "
                    f"{min(total, listed)} that num= and anchors= give",
                    "mask",
                )
        return [self.all_anchors[number] for number in self.mask]


def flat(boxes: Tensor) -> Tensor:
    """(N, anchors, entries, H, W) → (N, anchors·H·W, entries)"""
    return boxes.permute(0, 1, 3, 4, 2).flatten(1, 3)
