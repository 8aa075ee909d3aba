"""[activation], [dropout], [normalization], [implicit]: sections without weights over channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.activations import Activation
from yolo.layers.base import Layer, Shape, empty, register


@register("activation")
class Activate(Layer):
    """An activation as a section of its own."""

    activation: Activation

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.activation = Activation(section)
        self.out_shape = self.inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)"""
        return self.activation(x)


@register("dropout")
class Dropout(Layer):
    """Dropout in training, nothing in evaluation."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        probability = section.number("probability", 0.2)
        if not 0 <= probability < 1:
            raise section.error(f"probability={probability}: expected [0, 1)", "probability")
        self.dropout = nn.Dropout(probability)
        self.out_shape = self.inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)"""
        return self.dropout(x)


@register("normalization")
class Normalization(Layer):
    """Local response normalisation over `size` channels, as normalization_layer.c computes it.

    Its running sum never adds channel size // 2 but subtracts it like the others; so the square of
    that channel, if it exists, is missing in every sum.
    """

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.size = section.integer("size", 5, 1)
        self.alpha = section.number("alpha", 1e-4)
        self.beta = section.number("beta", 0.75)
        self.kappa = section.number("kappa", 1.0)
        self.out_shape = self.inputs[0]
        if self.size // 2 > self.out_shape.channels:
            raise section.error(
                f"size={self.size} reaches beyond {self.out_shape} channels", "size"
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)"""
        channels, half = x.shape[1], self.size // 2
        squares = x * x
        total = torch.cat((torch.zeros_like(squares[:, :1]), squares.cumsum(1)), 1)
        index = torch.arange(channels, device=x.device)
        first = (index - (self.size - 1) // 2).clamp(min=0)
        last = (index + half + 1).clamp(max=channels)
        window = total[:, last] - total[:, first]
        if half < channels:
            window = window - squares[:, half : half + 1]
        return x * (self.kappa + self.alpha * window) ** -self.beta


@register("implicit")
class Implicit(Layer):
    """Learned numbers that depend on no input (YOLOR)."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        filters = section.integer("filters", 128, 1)
        atoms = section.integer("atoms", 1, 1)
        self.out_shape = self.bounded(Shape(filters, atoms, 1))
        self.weight = nn.Parameter(empty(filters, atoms))

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        return {"weights": (self, "weight")}

    def fresh_weights(self, like: Tensor, random: torch.Generator) -> Tensor:
        """Uniform around mean_init= (representation_layer.c)."""
        mean = self.section.number("mean_init", 0.0)
        spread = self.section.number("std_init", 0.2)
        return mean + spread * (2 * torch.rand(like.shape, generator=random) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, …) → (N, filters, atoms, 1)"""
        return self.weight[None, :, :, None].expand(x.shape[0], -1, -1, -1)
