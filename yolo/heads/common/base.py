"""The base classes of all output sections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.errors import CfgError
from yolo.heads.common.loss import GroundTruth, HeadLoss, LossRule
from yolo.heads.common.teaching import Teaching
from yolo.layers.base import Layer, registered
from yolo.nms import Nms


class Learner(Layer):
    """A section with a loss."""

    @property
    def rule(self) -> LossRule:
        """Its loss; raises CfgError for keys that training doesn't support."""
        raise NotImplementedError

    def rule_before(self, cost: Learner) -> LossRule:
        """Its loss where a [cost] follows; raises CfgError where there can't be one."""
        raise cost.section.error(f"after [{self.section.name}] can't be trained: remove it")

    @property
    def learns_from(self) -> int:
        """The section whose output its loss gets: its source, or itself where it has several."""
        return self.sources[0] if len(self.sources) == 1 else self.section.index


class Head(Learner):
    """A section whose output is the network's, so a cut must not change it."""

    is_head = True

    def loss(self, x: Tensor, targets: GroundTruth, seen: int) -> HeadLoss:
        """The loss from the output of `learns_from` (N, C, H, W) and the targets.

        `seen` images have been trained with, these included.
        """
        return self.rule.loss(x, targets, seen)

    def teaching(self) -> Teaching[Any]:
        """Its distillation from a teacher's head; raises CfgError where it supports none."""
        raise _no_teaching(self.section)

    def widths(self, classes: int) -> dict[int, int]:
        """Channels that its sources need for another number of classes."""
        return {self.sources[0]: classes}


class BoxHead(Head):
    """A head that finds objects; each box has `entries` numbers, where all have the same number.

    `usual_classes` is the default of classes=.
    """

    gives_boxes = True
    usual_classes: ClassVar[int] = 20
    classes: int
    entries: int

    @classmethod
    def classes_in(cls, section: Section) -> int | None:
        return section.integer("classes", cls.usual_classes)

    def decode(self, out: Tensor) -> Tensor:
        """Output → boxes (N, boxes, 5 + classes).

        Centre x, y, width, height relative to the input, objectness, class probabilities.
        """
        raise NotImplementedError

    def confidences(self, decoded: Tensor, thresh: float) -> Tensor:
        """Objectness · probability (…, classes) of decoded boxes, 0 unless above `thresh`."""
        confidences = decoded[..., 4:5] * decoded[..., 5:]
        return torch.where(confidences > thresh, confidences, 0)

    def suppression(self, thresh: float | None = None) -> Nms:
        """The NMS of the section; `thresh` replaces its own threshold."""
        return Nms() if thresh is None else Nms(thresh)

    def widths(self, classes: int) -> dict[int, int]:
        boxes = self.inputs[0].channels // self.entries
        return {self.sources[0]: boxes * (self.entries - self.classes + classes)}

    def keys_for(self, classes: int) -> dict[str, object]:
        return {"classes": classes}

    def check_channels(self, boxes: int, what: str) -> None:
        """Raises CfgError unless its input has `boxes` times `entries` channels."""
        expected, channels = boxes * self.entries, self.inputs[0].channels
        if channels != expected:
            raise self.section.error(
                f"classes={self.classes} with {what} needs filters={expected} "
                f"before it, but gets {channels}"
            )


def box_heads(layers: Iterable[Layer]) -> list[BoxHead]:
    """The heads that give boxes."""
    return [layer for layer in layers if isinstance(layer, BoxHead)]


def teaching_of(layer: Layer) -> Teaching[Any]:
    """The distillation of a section; raises CfgError where it supports none."""
    if not isinstance(layer, Head):
        raise _no_teaching(layer.section)
    return layer.teaching()


def _no_teaching(section: Section) -> CfgError:
    """Names the sections that can learn from a teacher."""
    heads = ((name, kind) for name, kind in registered().items() if issubclass(kind, Head))
    able = sorted(f"[{name}]" for name, kind in heads if kind.teaching is not Head.teaching)
    return section.error(f"can't learn from a teacher: that needs one of {', '.join(able)}")
