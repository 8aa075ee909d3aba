"""[connected]"""

from collections.abc import Sequence

from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.activations import Activation
from yolo.layers.base import MOST_ELEMENTS, Layer, Shape, register
from yolo.layers.convolutional import batch_norm, bn_slots


@register("connected")
class Connected(Layer):
    """A fully connected layer over all channels and cells of its input."""

    activation: Activation

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.outputs = section.integer("output", 1, 1)
        inputs = self.inputs[0].elements
        if inputs * self.outputs > MOST_ELEMENTS:
            raise section.error(f"needs {inputs * self.outputs} weights: too many for Darknet")
        self.normalized = section.flag("batch_normalize")
        self.activation = Activation(section, "logistic")
        self.out_shape = self.bounded(Shape(self.outputs, 1, 1))
        self.linear = nn.Linear(inputs, self.outputs, bias=not self.normalized)
        self.bn = batch_norm(nn.BatchNorm1d, self.outputs) if self.normalized else None

    @property
    def mixes(self) -> bool:
        return True

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        biases = {"biases": (self.bn or self.linear, "bias"), "weights": (self.linear, "weight")}
        return biases | (bn_slots(self.bn) if self.bn else {})

    def macs(self) -> int:
        return self.inputs[0].elements * self.outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, outputs, 1, 1)"""
        return self.activation.onto(self.normalize(self.weigh(x.flatten(1))))[:, :, None, None]

    def weigh(self, x: Tensor) -> Tensor:
        """The product with the weights, before BN: (N, inputs) → (N, outputs)."""
        return self.linear(x)

    def normalize(self, x: Tensor) -> Tensor:
        """The output of BN, or x where there is none."""
        return x if self.bn is None else self.bn(x)
