"""Images with their truths, and the mini-batches made of them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from yolo.datasets.batch import Batch
from yolo.datasets.items import Items

Boxes = NDArray[np.float32]  # (M, 5): class, centre x, y, width, height
NO_BOXES: Boxes = np.zeros((0, 5), np.float32)
NO_LABELS = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Sample:
    """One image (H, W, C) with its truth: boxes or class probabilities.

    `labels`: (classes,); `size`: width, height of the image file; `difficult`: boxes that mAP
    ignores.
    """

    image: NDArray[Any]
    boxes: Boxes
    labels: NDArray[np.float32]
    path: str
    size: tuple[int, int]
    difficult: Boxes = field(default_factory=lambda: NO_BOXES)

    def showing(self, image: NDArray[Any]) -> Sample:
        """A copy with another image; dataclasses.replace takes three times as long."""
        return Sample(image, self.boxes, self.labels, self.path, self.size, self.difficult)


@functools.lru_cache(maxsize=256)
def one_hot(number: int, classes: int, smooth: float = 0.0) -> NDArray[np.float32]:
    """Probabilities (classes,); the other classes share `smooth` (fill_truth_smooth of data.c).

    The array is cached: don't write to it.
    """
    return one_hots([number], classes, smooth)[0]


def one_hots(numbers: Sequence[int], classes: int, smooth: float = 0.0) -> NDArray[np.float32]:
    """Probabilities (N, classes), as from one_hot."""
    labels = np.full((len(numbers), classes), smooth / max(1, classes - 1), np.float32)
    labels[np.arange(len(numbers)), numbers] = 1 - smooth
    return labels


def collate(samples: list[Sample]) -> Batch:
    """Samples of one size → a mini-batch."""
    first = samples[0].image
    height, width, channels = first.shape
    images = np.empty((len(samples), channels, height, width), first.dtype)
    for number, sample in enumerate(samples):
        for channel in range(channels):
            # a strided copy by numpy takes three times as long
            cv2.extractChannel(sample.image, channel, images[number, channel])
    return Batch(
        images=torch.from_numpy(images),
        boxes=_numbered([sample.boxes for sample in samples]),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])),
        paths=tuple(sample.path for sample in samples),
        sizes=tuple(sample.size for sample in samples),
        difficult=_numbered([sample.difficult for sample in samples]),
    )


def _numbered(boxes: Sequence[Boxes]) -> torch.Tensor:
    """Boxes (M, 5) of every image → (M, 6) of all, with the image's number in front."""
    numbers = np.repeat(np.arange(len(boxes), dtype=np.float32), [len(each) for each in boxes])
    return torch.from_numpy(np.column_stack((numbers, np.concatenate(boxes))))


def whole_batch(
    images: NDArray[Any],
    items: Items,
    indices: Sequence[int],
    classes: int,
    smooth: float = 0.0,
) -> Batch:
    """Images (N, H, W, C) that need no change, with their classes → a mini-batch."""
    count, height, width = images.shape[:3]
    numbers = [items.class_of(index) for index in indices]
    return Batch(
        images=torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        boxes=torch.zeros(0, 6),
        labels=torch.from_numpy(one_hots(numbers, classes, smooth)),
        paths=tuple(items.names[index] for index in indices),
        sizes=((width, height),) * count,
    )
