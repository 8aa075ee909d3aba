"""[softmax]"""

import functools
from collections.abc import Sequence

from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.base import Head, Learner
from yolo.heads.softmax.loss import CostLoss, SoftmaxLoss
from yolo.heads.softmax.teaching import SoftmaxTeaching
from yolo.layers.base import Layer, Shape, register


@register("softmax")
class Softmax(Head):
    """Softmax over all elements of an image, in `groups` equal parts, with a temperature."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        if section.has("tree"):
            raise section.error("tree= (a hierarchy of classes) is not supported", "tree")
        self.groups = section.integer("groups", 1, 1)
        self.temperature = section.number("temperature", 1.0)
        if self.temperature == 0:
            raise section.error("temperature=0 divides by zero", "temperature")
        self.out_shape = self.inputs[0]
        if self.out_shape.elements % self.groups:
            raise section.error(f"groups={self.groups} doesn't divide {self.out_shape}", "groups")

    @functools.cached_property
    def rule(self) -> SoftmaxLoss:
        """The loss where no [cost] follows; raises CfgError where there is none."""
        return SoftmaxLoss(self)

    def rule_before(self, cost: Learner) -> SoftmaxLoss:
        """The loss with a [cost] as one part of it, as in Darknet."""
        return SoftmaxLoss(self, CostLoss(cost.section))

    def teaching(self) -> SoftmaxTeaching:
        return SoftmaxTeaching(self.out_shape.elements, self.groups, self.temperature)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)"""
        parts = x.flatten(1).unflatten(1, (self.groups, -1))
        return (parts / self.temperature).softmax(2).reshape(x.shape)
