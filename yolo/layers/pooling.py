"""[maxpool], [local_avgpool], [avgpool]"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from yolo.cfg import Section
from yolo.layers.base import Layer, Shape, register


class _Pool(Layer):
    """Darknet's window: `padding` (default size - 1) in total, half of it before the map."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        if section.flag("antialiasing"):
            raise section.error("antialiasing is not supported", "antialiasing")
        stride = section.integer("stride", 1, 1)
        self.stride = section.integer("stride_y", stride, 1), section.integer("stride_x", stride, 1)
        self.size = section.integer("size", stride, 1)
        self.padding = section.integer("padding", self.size - 1, 0, 2**15)
        shape = self.inputs[0]
        height = self._length(shape.height, self.stride[0])
        width = self._length(shape.width, self.stride[1])
        self.out_shape = self.bounded(Shape(shape.channels, height, width))
        self.margins = (
            *self._margins(shape.width, width, self.stride[1]),
            *self._margins(shape.height, height, self.stride[0]),
        )

    def working_elements(self) -> int:
        left, right, top, bottom = self.margins
        shape = self.inputs[0]
        return shape.channels * (shape.height + top + bottom) * (shape.width + left + right)

    def _length(self, length: int, stride: int) -> int:
        return (length + self.padding - self.size) // stride + 1

    def _margins(self, length: int, out: int, stride: int) -> tuple[int, int]:
        """Numbers of cells before and after the map that lie in windows."""
        before = self.padding // 2
        last = (out - 1) * stride - before
        if self.size <= before or last >= length:
            raise self.section.error(f"padding={self.padding}: a window lies outside the map")
        # negative: the last cells are in no window
        return before, last + self.size - length


@register("maxpool")
class MaxPool(_Pool):
    """Maximum over a window, or with maxpool_depth over channels; cells outside never win."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        self.depth = section.flag("maxpool_depth")
        super().__init__(section, earlier, image)
        if self.depth:
            channels = section.integer("out_channels", 1, 1, self.inputs[0].channels)
            self.out_shape = Shape(channels, self.inputs[0].height, self.inputs[0].width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C', H', W')"""
        if self.depth:
            channels = self.out_shape.channels
            x = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % channels), value=float("-inf"))
            return x.unflatten(1, (-1, channels)).amax(1)
        symmetric = self.margins[0] == self.margins[1] == self.margins[2] == self.margins[3]
        if symmetric and 0 <= self.margins[0] <= self.size // 2:
            return F.max_pool2d(x, self.size, self.stride, self.margins[0])
        return F.max_pool2d(F.pad(x, self.margins, value=float("-inf")), self.size, self.stride)


@register("local_avgpool")
class LocalAvgPool(_Pool):
    """Mean over the cells of a window that lie inside the map."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H', W')"""
        total = F.avg_pool2d(F.pad(x, self.margins), self.size, self.stride)
        inside = F.pad(x.new_ones(1, 1, *x.shape[2:]), self.margins)
        return total / F.avg_pool2d(inside, self.size, self.stride)


@register("avgpool")
class AvgPool(Layer):
    """Mean of every channel."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.out_shape = Shape(self.inputs[0].channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, 1, 1)"""
        return x.mean((2, 3), keepdim=True)
