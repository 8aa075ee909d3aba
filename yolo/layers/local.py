"""[local]"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.activations import Activation
from yolo.layers.base import MOST_ELEMENTS, Layer, Shape, empty, he_normal, register


@register("local")
class Local(Layer):
    """A convolution with different weights at every cell (local_layer.c)."""

    activation: Activation

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.filters = section.integer("filters", 1, 1)
        self.size = section.integer("size", 1, 1)
        self.stride = section.integer("stride", 1, 1)
        self.padding = section.integer("pad", 0)
        self.activation = Activation(section, "logistic")
        shape = self.inputs[0]
        height, width = (self._length(n) for n in (shape.height, shape.width))
        self.out_shape = self.bounded(Shape(self.filters, height, width))
        fan_in = shape.channels * self.size**2
        if self.out_shape.elements * fan_in > MOST_ELEMENTS:
            raise section.error("needs too many weights for Darknet")
        self.bias = nn.Parameter(empty(self.filters, height * width))
        self.weight = nn.Parameter(empty(height * width, self.filters, fan_in))

    @property
    def mixes(self) -> bool:
        return True

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        return {"biases": (self, "bias"), "weights": (self, "weight")}

    def fresh_weights(self, like: Tensor, random: torch.Generator) -> Tensor:
        return he_normal(like, like.shape[2], random)

    def macs(self) -> int:
        return self.out_shape.elements * self.inputs[0].channels * self.size**2

    def working_elements(self) -> int:
        return self.out_shape.area * self.inputs[0].channels * self.size**2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, filters, H', W')"""
        patches = F.unfold(x, self.size, padding=self.padding, stride=self.stride)
        out = torch.einsum("lfk,nkl->nfl", self.weight, patches) + self.bias
        shape = self.out_shape
        return self.activation(out.unflatten(2, (shape.height, shape.width)))

    def _length(self, length: int) -> int:
        computed = (length - 1 if self.padding else length - self.size) // self.stride + 1
        filled = (length + 2 * self.padding - self.size) // self.stride + 1
        if computed != filled:
            raise self.section.error(
                f"pad={self.padding} with size={self.size}: Darknet computes another output size "
                f"({computed}) than it fills ({filled})"
            )
        return computed
