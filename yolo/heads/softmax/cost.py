"""[cost]"""

import functools
from collections.abc import Sequence

from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.base import Learner
from yolo.heads.softmax.loss import CostLoss
from yolo.layers.base import Layer, Shape, register


@register("cost")
class CostHead(Learner):
    """The place of a loss; in evaluation its output is its input."""

    computes = False

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.out_shape = self.inputs[0]

    @functools.cached_property
    def rule(self) -> CostLoss:
        return CostLoss(self.section)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)"""
        return x
