"""[route], [shortcut], [scale_channels], [sam]: sections with several sources."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.activations import Activation
from yolo.layers.base import Layer, Shape, empty, register

WEIGHTS = {"none": 0, "per_feature": 1, "per_layer": 1, "per_channel": 2}
NORMALIZATION = {"none": "none", "relu": "relu", "avg_relu": "relu", "softmax": "softmax"}


@register("route")
class Route(Layer):
    """The channels of its sources, or of the slice `group_id` of each, one after the other."""

    follows = False
    refers = ("layers",)

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.groups = section.integer("groups", 1, 1)
        self.group_id = section.integer("group_id", 0, 0, self.groups - 1)
        first = self.inputs[0]
        for index, shape in zip(self.sources, self.inputs, strict=True):
            if (shape.height, shape.width) != (first.height, first.width):
                raise section.error(
                    f"layers={section.text('layers')}: layer {index} gives {shape}, "
                    f"layer {self.sources[0]} gives {first}",
                    "layers",
                )
            if shape.channels % self.groups:
                raise section.error(
                    f"groups={self.groups} doesn't divide the {shape.channels} channels "
                    f"of layer {index}",
                    "groups",
                )
        channels = sum(shape.channels // self.groups for shape in self.inputs)
        self.out_shape = self.bounded(Shape(channels, first.height, first.width))

    def forward(self, *xs: Tensor) -> Tensor:
        """(N, C_i, H, W) → (N, ΣC_i / groups, H, W)"""
        if self.groups > 1:
            xs = tuple(self._slice(x, shape) for x, shape in zip(xs, self.inputs, strict=True))
        return xs[0] if len(xs) == 1 else torch.cat(xs, 1)

    def _slice(self, x: Tensor, shape: Shape) -> Tensor:
        width = shape.channels // self.groups
        return x[:, width * self.group_id : width * (self.group_id + 1)]


@register("shortcut")
class Shortcut(Layer):
    """The layer before plus the layers `from`, in their common channels, with optional weights."""

    activation: Activation
    refers = ("from",)

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.activation = Activation(section)
        self.out_shape = self.inputs[0]
        for index, shape in zip(self.sources[1:], self.inputs[1:], strict=True):
            if (shape.height, shape.width) != (self.out_shape.height, self.out_shape.width):
                raise section.error(
                    f"from={section.text('from')}: layer {index} gives {shape}, the layer before "
                    f"gives {self.out_shape}: width and height must be equal, as in Darknet",
                    "from",
                )
        kind = section.choice("weights_type", "none", WEIGHTS)
        self.normalization = section.choice("weights_normalization", "none", NORMALIZATION)
        self.weight = None
        if kind:
            columns = self.out_shape.channels if kind == 2 else 1
            self.weight = nn.Parameter(empty(len(self.sources), columns))

    @property
    def unequal(self) -> bool:
        return any(shape.channels != self.out_shape.channels for shape in self.inputs)

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        return {} if self.weight is None else {"weights": (self, "weight")}

    def fresh_weights(self, like: Tensor, random: torch.Generator) -> Tensor:
        return torch.ones(like.shape)

    def macs(self) -> int:
        return 0 if self.weight is None else self.out_shape.elements * len(self.sources)

    def forward(self, *xs: Tensor) -> Tensor:
        """(N, C, H, W) + (N, C_i, H, W) … → (N, C, H, W)"""
        factors = normalised(self.weight, self.normalization)
        if factors is not None:
            xs = tuple(
                x * (f[: x.shape[1], None, None] if len(f) > 1 else f)
                for x, f in zip(_fitted(xs), factors, strict=True)
            )
        total = xs[0]
        for x in _fitted(xs)[1:]:
            if x.shape[1] == total.shape[1]:
                total = total + x
            else:
                common = x.shape[1]
                total = torch.cat((total[:, :common] + x, total[:, common:]), 1)
        return self.activation(total)


def normalised(weights: Tensor | None, normalization: str) -> list[Tensor] | None:
    """One factor (C or 1,) for each source, from the stored weights; None where all are 1."""
    if weights is None:
        return None
    if normalization == "relu":
        weights = torch.relu(weights)
        weights = weights / (weights.sum(0) + 1e-4)
    elif normalization == "softmax":
        weights = torch.exp(weights - weights.amax(0))
        weights = weights / (weights.sum(0) + 1e-4)
    return list(weights)


def _fitted(xs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Tensors cut to the number of channels of the first one."""
    width = xs[0].shape[1]
    return tuple(x[:, :width] if x.shape[1] > width else x for x in xs)


class _Product(Layer):
    """The layer before times the layer `from`, whose shape it keeps."""

    activation: Activation
    refers = ("from",)

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.activation = Activation(section)
        self.out_shape = self.inputs[1]
        self.check(*self.inputs)

    @classmethod
    def find_sources(cls, section: Section) -> tuple[int, ...]:
        section.integer("from", minimum=-(2**31))  # not a list
        return super().find_sources(section)

    def check(self, factor: Shape, other: Shape) -> None:
        """Raises CfgError where the shapes don't fit."""
        raise NotImplementedError

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Factor (N, C or 1, H or 1, W or 1) and (N, C, H, W) → (N, C, H, W)"""
        return self.activation(other * x)

    def refuse(self, expected: Shape) -> None:
        factor, other = self.inputs
        raise self.section.error(
            f"from={self.section.text('from')}: layer {self.sources[1]} gives {other}, "
            f"so the layer before must give {expected}, but gives {factor}",
            "from",
        )


@register("scale_channels")
class ScaleChannels(_Product):
    """One factor for each channel (squeeze and excite), or with scale_wh for each cell."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        self.scale_wh = section.flag("scale_wh")
        super().__init__(section, earlier, image)

    def check(self, factor: Shape, other: Shape) -> None:
        per_channel = Shape(other.channels, 1, 1)
        expected = Shape(1, other.height, other.width) if self.scale_wh else per_channel
        if factor != expected:
            self.refuse(expected)


@register("sam")
class Sam(_Product):
    """One factor for each element (spatial attention)."""

    def check(self, factor: Shape, other: Shape) -> None:
        if factor != other:
            self.refuse(other)
