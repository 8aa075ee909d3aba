"""[convolutional]"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.activations import Activation
from yolo.layers.base import MOST_ELEMENTS, Layer, Shape, register, resolve

BN_EPSILON = 1e-5  # AlexeyAB divides by sqrt(variance + 1e-5)
REFUSED = ("binary", "xnor", "bin_output", "antialiasing", "coordconv", "flipped")


def batch_norm(module: type[nn.BatchNorm1d] | type[nn.BatchNorm2d], channels: int) -> nn.Module:
    """A BatchNorm with Darknet's epsilon and momentum, and no tensor that Darknet doesn't store."""
    bn = module(channels, eps=BN_EPSILON, momentum=0.1)
    bn.num_batches_tracked = None
    return bn


def bn_slots(bn: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """Slots of scales, mean and variance, in the order of every section with batch_normalize."""
    attributes = {"scales": "weight", "mean": "running_mean", "variance": "running_var"}
    return {name: (bn, attribute) for name, attribute in attributes.items()}


@register("convolutional")
class Convolutional(Layer):
    """Convolution, batch normalisation where asked for, activation.

    Effective padding is padding·dilation; the output size ignores the dilation, as Darknet's does.
    """

    activation: Activation

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        for key in REFUSED:
            if section.flag(key):
                raise section.error(f"{key}={section.text(key)} is not supported", key)
        self.filters = section.integer("filters", 1, 1)
        self.size = section.integer("size", 1, 1)
        stride = section.integer("stride", 1, 1)
        self.stride = section.integer("stride_y", stride, 1), section.integer("stride_x", stride, 1)
        self.dilation = section.integer("dilation", 1, 1) if self.size > 1 else 1
        padding = section.integer("padding", 0)
        self.padding = self.size // 2 if section.flag("pad") else padding
        if self.size == 1 and self.stride[1] == 1 and (self.padding or self.stride[0] > 1):
            # forward_convolutional_layer uses its input unchanged where size and stride are 1
            raise section.error("a 1x1 convolution with padding or row stride: Darknet misreads it")
        self.groups = self._groups()
        self.normalized = section.flag("batch_normalize") or section.flag("cbn")
        self.activation = Activation(section, "logistic", mixing=True)
        self.out_shape = self._output()
        self._owner = self._shared_with(earlier)
        self.conv = self._build()
        self.bn = batch_norm(nn.BatchNorm2d, self.filters) if self.normalized else None

    @property
    def owner(self) -> Convolutional | None:  # type: ignore[override]
        """The section that share_index names."""
        return self._owner[0] if self._owner else None

    @property
    def mixes(self) -> bool:
        return not 1 < self.groups == self.inputs[0].channels

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        if self._owner:
            return {}
        biases = {"biases": (self.bn or self.conv, "bias")}
        return biases | (bn_slots(self.bn) if self.bn else {}) | {"weights": (self.conv, "weight")}

    def tie(self) -> None:
        if self.owner:
            self.conv._parameters = dict(self.owner.conv._parameters)
            if self.bn and self.owner.bn:
                self.bn._parameters = dict(self.owner.bn._parameters)
                self.bn._buffers = dict(self.owner.bn._buffers)

    def macs(self) -> int:
        return self.weight_count * self.out_shape.area

    @property
    def weight_count(self) -> int:
        return self.filters * (self.inputs[0].channels // self.groups) * self.size**2

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, filters, H', W')"""
        return self.activation.onto(self.normalize(self.weigh(x)))

    def weigh(self, x: Tensor) -> Tensor:
        """The convolution, before BN: (N, C, H, W) → (N, filters, H', W')."""
        return self.conv(x)

    def normalize(self, x: Tensor) -> Tensor:
        """The output of BN, or x where there is none."""
        return x if self.bn is None else self.bn(x)

    def _groups(self) -> int:
        groups = self.section.integer("groups", 1) or 1
        for what, count in (("input channels", self.inputs[0].channels), ("filters", self.filters)):
            if count % groups:
                raise self.section.error(f"groups={groups} doesn't divide {count} {what}", "groups")
        return groups

    def _output(self) -> Shape:
        shape = self.inputs[0]
        for length in (shape.height, shape.width):
            reach = self.dilation * (self.size - 1) + 1
            if length + 2 * self.padding * self.dilation < reach:
                raise self.section.error(f"size={self.size} is larger than the padded {shape}")
        height, width = (
            (length + 2 * self.padding - self.size) // stride + 1
            for length, stride in zip((shape.height, shape.width), self.stride, strict=True)
        )
        real = tuple(
            (length + (2 * self.padding - self.size + 1) * self.dilation - 1) // stride + 1
            for length, stride in zip((shape.height, shape.width), self.stride, strict=True)
        )
        if real != (height, width):
            raise self.section.error(
                f"dilation={self.dilation} with padding {self.padding}: Darknet computes another "
                f"output size ({height}x{width}) than it fills ({real[0]}x{real[1]})",
                "dilation",
            )
        if self.weight_count > MOST_ELEMENTS:
            raise self.section.error(f"needs {self.weight_count} weights: too many for Darknet")
        return self.bounded(Shape(self.filters, height, width))

    def _shared_with(self, earlier: Sequence[Layer]) -> tuple[Convolutional, ...]:
        if not self.section.has("share_index"):
            return ()
        index = self.section.integer("share_index", minimum=-(2**31))
        owner = earlier[resolve(self.section, "share_index", index)]
        mine = (self.filters, self.size, self.groups, self.normalized, self.inputs[0].channels)
        if not isinstance(owner, Convolutional) or mine != (
            owner.filters,
            owner.size,
            owner.groups,
            owner.normalized,
            owner.inputs[0].channels,
        ):
            raise self.section.error(f"share_index={index}: its tensors have other shapes")
        return (owner.owner or owner,)

    def _build(self) -> nn.Conv2d:
        return nn.Conv2d(
            self.inputs[0].channels,
            self.filters,
            self.size,
            self.stride,
            self.padding * self.dilation,
            self.dilation,
            self.groups,
            bias=not self.normalized,
        )
