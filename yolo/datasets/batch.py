"""A mini-batch, as the loaders yield it."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One mini-batch.

    `images`: (N, C, H, W), uint8 in [0, 255] in training, float32 in [0, 1] in evaluation.
    `boxes`: (M, 6) float32: image number in the batch, class, centre x, y, width, height,
    relative to the network's input in training, to the image file in evaluation; M = 0 for
    classifiers.
    `labels`: (N, classes) float32, the probability of every class, for classifiers; (N, 0) for
    detectors.
    `sizes`: width, height of the image files.
    `difficult`: (M, 6) as `boxes`, the objects that mAP ignores; M = 0 in training.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    paths: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    difficult: Tensor = field(default_factory=lambda: torch.zeros(0, 6))

    def __len__(self) -> int:
        return len(self.paths)
