"""[batchnorm]"""

from collections.abc import Sequence

from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.base import Layer, Shape, register
from yolo.layers.convolutional import batch_norm, bn_slots


@register("batchnorm")
class BatchNorm(Layer):
    """Batch normalisation as a section of its own."""

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.out_shape = self.inputs[0]
        self.bn = batch_norm(nn.BatchNorm2d, self.out_shape.channels)

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        biases: dict[str, tuple[nn.Module, str]] = {"biases": (self.bn, "bias")}
        return biases | bn_slots(self.bn)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, H, W)"""
        return self.bn(x)
