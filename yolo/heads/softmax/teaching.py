"""Distillation of [softmax]."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from yolo.heads.common.teaching import Teaching, softened


@dataclass(frozen=True)
class SoftmaxTeaching(Teaching[Tensor]):
    """The distillation of logits of `outputs` classes in `groups` parts, over the temperature."""

    outputs: int
    groups: int
    temperature: float

    @property
    def traits(self) -> Sequence[str]:
        return f"has {self.outputs} outputs", f"has groups={self.groups}"

    def shown(self, x: Tensor) -> Tensor:
        """Logits (N, groups, outputs of a group)."""
        return x.flatten(1).unflatten(1, (self.groups, -1)) / self.temperature

    def output(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return softened(student, teacher, temperature).sum()
