"""The geometry of [ssd]: boxes from several maps, each a shifted prior box of its cell.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu and Berg: SSD, Single Shot MultiBox Detector (ECCV 2016,
arXiv 1512.02325).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.base import BoxHead
from yolo.heads.ssd.prior_boxes import CLIP_NUMBERS, prior_boxes, read_options
from yolo.layers.base import Layer, Shape
from yolo.nms import Nms

COORDINATES = 4


class PriorHead(BoxHead):
    """SSD's head: joins the outputs of the layers `loc` and `conf` for every prior box.

    For each map, `loc` has 4 channels a box, `conf` one for the background and one a class, box
    after box. Boxes below `conf_thresh` are never detections; the best `top_k` of each class enter
    NMS with threshold `nms`, and `keep_top_k` of an image are left; 0 is no limit.
    """

    feeds = False
    follows = False
    refers = ("loc", "conf")
    sees_patches = True
    is_left_out = True
    in_darknet = False

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        loc, conf = (len(section.integers(key)) for key in self.refers)
        if loc != conf:
            raise section.error(f"loc has {loc} layers, conf has {conf}", "conf")
        if len(set(self.sources)) < len(self.sources):
            raise section.error("the same layer is listed twice in loc and conf", "conf")
        self.image = image
        self.classes = section.integer("classes", self.usual_classes, 1)
        self.entries = COORDINATES + 1 + self.classes
        self.variance = section.numbers("variance", (0.1, 0.1, 0.2, 0.2))
        if len(self.variance) != COORDINATES or min(self.variance) <= 0:
            raise section.error("variance: expected 4 numbers above 0", "variance")
        self.conf_thresh = self._share("conf_thresh", 0.01)
        self.nms = self._share("nms", 0.45)
        self.top_k = section.integer("top_k", 400)
        self.keep_top_k = section.integer("keep_top_k", 200)
        self.offset = section.number("offset", 0.5)
        self.clip = section.integer("clip", 0, 0, CLIP_NUMBERS)
        self.maps = self._maps()
        self.prior_options = read_options(section, len(self.maps))
        self._check_channels()
        self._check_priors()
        self.out_shape = self.bounded(Shape(self.entries, len(self.priors), 1))

    @functools.cached_property
    def priors(self) -> Tensor:
        """Centre x, y, width, height relative to the input: (P, 4)"""
        size = self.image.height, self.image.width
        with torch.device("cpu"):  # a network is built on the meta device
            return prior_boxes(self.prior_options, self.maps, size, self.offset, self.clip)

    def forward(self, *xs: Tensor) -> Tensor:
        """(N, C_i, H_i, W_i) → (N, 4 + 1 + classes, P, 1): shifts, logits with background."""
        count = len(self.maps)
        loc = torch.cat([_rows(x, COORDINATES) for x in xs[:count]], 1)
        conf = torch.cat([_rows(x, 1 + self.classes) for x in xs[count:]], 1)
        return torch.cat((loc, conf), 2).transpose(1, 2)[..., None]

    def decode(self, out: Tensor) -> Tensor:
        """Output → (N, P, 5 + classes), with an objectness of 1"""
        rows = out[..., 0].transpose(1, 2)
        boxes = self.boxes(rows[..., :COORDINATES])
        classes = rows[..., COORDINATES:].softmax(2)[..., 1:]
        return torch.cat((boxes, torch.ones_like(boxes[..., :1]), classes), 2)

    def confidences(self, decoded: Tensor, thresh: float) -> Tensor:
        return super().confidences(decoded, max(thresh, self.conf_thresh))

    def suppression(self, thresh: float | None = None) -> Nms:
        own = Nms(self.nms, per_class=self.top_k, per_image=self.keep_top_k)
        return own if thresh is None else replace(own, thresh=thresh)

    def widths(self, classes: int) -> dict[int, int]:
        boxes = [len(options.shapes) for options in self.prior_options]
        conf = self.sources[len(boxes) :]
        return {i: count * (1 + classes) for i, count in zip(conf, boxes, strict=True)}

    def boxes(self, shifts: Tensor) -> Tensor:
        """Shifts (…, P, 4) → centre x, y, width, height relative to the input (…, P, 4)"""
        priors, variance = self.priors.to(shifts), shifts.new_tensor(self.variance)
        scaled = shifts * variance
        centres = priors[:, :2] + scaled[..., :2] * priors[:, 2:]
        return torch.cat((centres, priors[:, 2:] * scaled[..., 2:].exp()), -1)

    def shifts(self, boxes: Tensor, priors: Tensor) -> Tensor:
        """The shifts that make boxes (K, 4) of these priors (K, 4): the inverse of `boxes`."""
        centres = (boxes[:, :2] - priors[:, :2]) / priors[:, 2:]
        sizes = (boxes[:, 2:] / priors[:, 2:]).log()
        return torch.cat((centres, sizes), 1) / boxes.new_tensor(self.variance)

    def _share(self, key: str, default: float) -> float:
        value = self.section.number(key, default)
        if not 0 <= value <= 1:
            raise self.section.error(f"{key}={value:g}: expected 0 to 1", key)
        return value

    def _maps(self) -> list[tuple[int, int]]:
        """Heights and widths of the maps; raises CfgError where loc and conf differ."""
        count = len(self.inputs) // 2
        maps = []
        for number in range(count):
            loc, conf = self.inputs[number], self.inputs[count + number]
            if (loc.height, loc.width) != (conf.height, conf.width):
                raise self.section.error(
                    f"layer {self.sources[number]} of loc gives {loc}, but layer "
                    f"{self.sources[count + number]} of conf gives {conf}",
                    "conf",
                )
            maps.append((loc.height, loc.width))
        return maps

    def _check_priors(self) -> None:
        """Raises CfgError for prior boxes of another input: sizes and steps are pixels of one."""
        size = (self.image.width, self.image.height)
        for source, (height, width) in zip(self.prior_options, self.maps, strict=True):
            for length, count in zip(size, (width, height), strict=True):
                step = source.step or length / count
                if (count - 1 + self.offset) * step > length + step / 2:
                    raise self.section.error(
                        f"{count} cells with a step of {step:g} reach beyond an input of "
                        f"{size[0]}x{size[1]}: set steps, min_sizes and max_sizes for this input"
                    )
        if not (self.priors[:, 2:] > 0).all():
            raise self.section.error("a prior box has no area")

    def _check_channels(self) -> None:
        count = len(self.maps)
        for number, source in enumerate(self.prior_options):
            boxes = len(source.shapes)
            for key, at, width in (("loc", 0, COORDINATES), ("conf", count, 1 + self.classes)):
                channels = self.inputs[at + number].channels
                if channels != boxes * width:
                    raise self.section.error(
                        f"{boxes} prior boxes a cell and classes={self.classes} need filters="
                        f"{boxes * width} in layer {self.sources[at + number]} of {key}, "
                        f"which has {channels}",
                        key,
                    )


def _rows(x: Tensor, width: int) -> Tensor:
    """(N, A·width, H, W) → (N, H·W·A, width)"""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, width)
