"""[upsample], [reorg], [reorg3d], [crop]"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from yolo.cfg import Section
from yolo.layers.base import Layer, Shape, register


@register("upsample")
class Upsample(Layer):
    """Every cell repeated stride × stride times, times `scale`."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.stride = section.integer("stride", 2, 1, 2**15)
        self.scale = section.number("scale", 1.0)
        shape = self.inputs[0]
        height, width = shape.height * self.stride, shape.width * self.stride
        self.out_shape = self.bounded(Shape(shape.channels, height, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H·stride, W·stride)"""
        x = F.interpolate(x, scale_factor=self.stride, mode="nearest")
        return x if self.scale == 1 else x * self.scale


class _Reorg(Layer):
    """Space to depth with `stride`, or with `reverse` depth to space."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.stride = section.integer("stride", 1, 1, 2**15)
        self.reverse = section.flag("reverse")
        shape, stride, cells = self.inputs[0], self.stride, self.stride**2
        divided = (shape.channels,) if self.reverse else (shape.height, shape.width)
        if any(n % (cells if self.reverse else stride) for n in divided):
            raise section.error(f"stride={stride} doesn't divide {shape}")
        if self.reverse:
            out = Shape(shape.channels // cells, shape.height * stride, shape.width * stride)
        else:
            out = Shape(shape.channels * cells, shape.height // stride, shape.width // stride)
        self.out_shape = self.bounded(out)


def space_to_depth(x: Tensor, stride: int) -> Tensor:
    """(N, C, H, W) → (N, stride²·C, H / stride, W / stride), channels in the order (dy, dx, c)."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // stride, stride, w // stride, stride)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, c * stride**2, h // stride, w // stride)


def depth_to_space(x: Tensor, stride: int) -> Tensor:
    """The inverse of space_to_depth."""
    n, c, h, w = x.shape
    x = x.reshape(n, stride, stride, c // stride**2, h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, c // stride**2, h * stride, w * stride)


@register("reorg3d")
class Reorg3d(_Reorg):
    """Space to depth, channel by channel; its reverse reads its input as a wider map first."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        if self.reverse and self.out_shape.channels % self.stride**2:
            raise section.error(
                f"stride={self.stride} to the fourth doesn't divide {self.inputs[0]}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C·stride², H / stride, W / stride), or back"""
        if not self.reverse:
            return space_to_depth(x, self.stride)
        shape = self.out_shape
        wide = x.reshape(x.shape[0], shape.channels, shape.height, shape.width)
        return depth_to_space(wide, self.stride).reshape(wide.shape)


@register("reorg")
class Reorg(_Reorg):
    """The original Darknet's [reorg], which mixes channels and cells (reorg_old_layer.c).

    Its input is read as if it were a map of (C / stride², H·stride, W·stride).
    """

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        if self.inputs[0].channels % self.stride**2:
            raise section.error(f"stride={self.stride} squared doesn't divide {self.inputs[0]}")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C·stride², H / stride, W / stride), or back"""
        n, c, h, w = x.shape
        if self.reverse:
            out = depth_to_space(x, self.stride)
        else:
            wide = x.reshape(n, c // self.stride**2, h * self.stride, w * self.stride)
            out = space_to_depth(wide, self.stride)
        shape = self.out_shape
        return out.reshape(n, shape.channels, shape.height, shape.width)


@register("crop")
class Crop(Layer):
    """The middle of the image, from [0, 1] to [-1, 1] unless noadjust."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        shape = self.inputs[0]
        height = section.integer("crop_height", 1, 1, shape.height)
        width = section.integer("crop_width", 1, 1, shape.width)
        self.top, self.left = (shape.height - height) // 2, (shape.width - width) // 2
        self.adjust = not section.flag("noadjust")
        self.out_shape = Shape(shape.channels, height, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, crop_height, crop_width)"""
        shape = self.out_shape
        rows = slice(self.top, self.top + shape.height)
        x = x[:, :, rows, self.left : self.left + shape.width]
        return x * 2 - 1 if self.adjust else x
