"""[l2norm]: the channels of each cell divided by their norm, times a learned factor each."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.base import Layer, Shape, empty, register
from yolo.layers.written import Floats, Outside, Written, affine

NORMALIZATION = """[normalization]
size={size}
alpha=1
beta=0.5
kappa={eps:g}"""


@register("l2norm")
class L2Norm(Layer):
    """x / √(Σx² + eps) over the channels, times a factor for each channel.

    `scale` is the initial factor, 20 as in SSD (Liu, Rabinovich and Berg: ParseNet, 2015, arXiv
    1506.04579). Theirs divides by √Σx² + eps; with 1e-10 that differs only in cells that are all
    zero, and only this form can be computed by Darknet, as [normalization].
    """

    in_darknet = False

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.scale = section.number("scale", 20.0)
        self.eps = section.number("eps", 1e-10)
        if self.eps <= 0:
            raise section.error(f"eps={self.eps:g}: expected more than 0", "eps")
        self.out_shape = self.inputs[0]
        self.factors = nn.Parameter(empty(self.out_shape.channels))

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        return {"factors": (self, "factors")}

    def first(self, name: str) -> Tensor | None:
        return torch.tensor(self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)"""
        # squares, and one over a norm of 0, overflow in half floats
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        norm = wide.square().sum(1, keepdim=True).add(self.eps).rsqrt()
        return (wide * norm * self.factors[:, None, None]).to(x)

    def substitutes(self) -> tuple[Written, ...]:
        """A [normalization] over all channels, and its factors."""
        size = 2 * self.out_shape.channels  # reaches all channels from each
        return Written(NORMALIZATION.format(size=size, eps=self.eps)), self._scaling()

    def outside(self) -> Outside:
        """The norm; the factors follow it."""
        return Outside(
            lambda x: normalized(x, self.eps),
            "x / sqrt(sum of x^2 over the channels + eps)",
            {"eps": self.eps},
            (self._scaling(),),
        )

    def _scaling(self) -> Written:
        factors = self.factors.detach()
        return affine(factors, torch.zeros_like(factors))

    def macs(self) -> int:
        return self.out_shape.elements


def normalized(x: Floats, eps: float) -> Floats:
    """x / √(Σx² + eps) over the channels: (N, C, H, W)"""
    return np.asarray(x / np.sqrt(np.square(x).sum(1, keepdims=True) + eps), np.float32)
