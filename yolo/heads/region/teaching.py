"""Distillation of [region]."""

from collections.abc import Sequence

import torch
from torch import Tensor

from yolo.heads.common.grid import grid_traits
from yolo.heads.common.teaching import BoxTeaching, Entries, softened
from yolo.heads.region.decode import RegionHead


class RegionTeaching(BoxTeaching):
    """The distillation of [region]: classes by a softmax, or by squared differences."""

    def __init__(self, head: RegionHead) -> None:
        self.head = head

    @property
    def traits(self) -> Sequence[str]:
        return grid_traits(self.head, softmax=self.head.softmax)

    def shown(self, x: Tensor) -> Entries:
        entries = x.unflatten(1, (-1, self.head.entries))
        coordinates, logits = entries[:, :, :4], entries[:, :, 4:]
        coordinates = torch.cat((coordinates[:, :, :2].sigmoid(), coordinates[:, :, 2:]), 2)
        return Entries(coordinates, logits[:, :, 0], logits[:, :, 1:])

    def class_loss(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        if self.head.softmax:
            return softened(student, teacher, temperature)
        return (student - teacher).square().sum(2) / 2

    def anchors(self, like: Tensor) -> tuple[Tensor, list[int]]:
        shape = like.new_tensor((like.shape[-1], like.shape[-2]))
        return like.new_tensor(self.head.anchors) / shape, list(range(len(self.head.anchors)))
