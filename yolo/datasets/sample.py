"""Images with their truth, and how they become a mini-batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from yolo.datasets.batch import Batch

Boxes = NDArray[np.float32]  # (M, 5): class, centre x, y, width, height
NO_BOXES: Boxes = np.zeros((0, 5), np.float32)
NO_LABELS = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Sample:
    """One image (H, W, C) with its truth: boxes or class probabilities.

    `labels`: (classes,); `size`: width, height of the image file.
    """

    image: NDArray[Any]
    boxes: Boxes
    labels: NDArray[np.float32]
    path: str
    size: tuple[int, int]


def one_hot(number: int, classes: int, smooth: float = 0.0) -> NDArray[np.float32]:
    """(classes,) probabilities; the other classes share `smooth` (fill_truth_smooth of data.c)."""
    rest = smooth / (classes - 1) if classes > 1 else 0.0
    labels = np.full(classes, rest, np.float32)
    labels[number] = 1 - smooth
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
    boxes = [np.insert(sample.boxes, 0, number, axis=1) for number, sample in enumerate(samples)]
    return Batch(
        images=torch.from_numpy(images),
        boxes=torch.from_numpy(np.concatenate(boxes)),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])),
        paths=tuple(sample.path for sample in samples),
        sizes=tuple(sample.size for sample in samples),
    )
