"""Images and truths exactly as Darknet's evaluations see them."""

from __future__ import annotations

import numpy as np

from yolo.datasets.data import Data, Item, Split
from yolo.datasets.images import (
    WHOLE,
    Floats,
    Pixels,
    Placement,
    center_crop_darknet,
    letterbox_darknet,
    read_image,
    resize_darknet,
)
from yolo.datasets.labels import Problems, check_labels, read_labels
from yolo.datasets.loading import Loaded, Loader, Skipped
from yolo.datasets.sample import NO_BOXES, NO_LABELS, Boxes, Sample, collate, one_hot
from yolo.datasets.task import Task
from yolo.errors import DataError


class EvaluationLoader(Loader):
    """All images of a split in the order of the list; float32 in [0, 1]."""

    def __init__(
        self, data: Data, task: Task, split: Split, batch: int, workers: int, letterbox: bool
    ) -> None:
        super().__init__(workers)
        self.data, self.task, self.letterbox = data, task, letterbox
        self.items, self.batch = data.items(split), batch
        if task.is_detector:
            check_labels([item.path for item in self.items])

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch)

    def load(self, number: int) -> Loaded:
        samples: list[Sample] = []
        skipped: list[Skipped] = []
        problems = Problems()
        for item in self.items[number * self.batch : (number + 1) * self.batch]:
            try:
                image = read_image(item.path, self.task.channels)
            except DataError as error:
                skipped.append((item.path, str(error)))
                continue
            sample, found = self._sample(item, image)
            samples.append(sample)
            problems += found
        return Loaded(collate(samples) if samples else None, tuple(skipped), problems)

    def _sample(self, item: Item, image: Pixels) -> tuple[Sample, Problems]:
        height, width = image.shape[:2]
        task = self.task
        if not task.is_detector:
            pixels = center_crop_darknet(image, task.width, task.height)
            labels = one_hot(self.data.class_of(item), task.classes)
            return Sample(pixels, NO_BOXES, labels, item.path, (width, height)), Problems()
        found = read_labels(item.path, task.classes, clip=False)
        pixels, placement = self._resized(image)
        boxes = moved(found.boxes, placement)
        sample = Sample(pixels, boxes, NO_LABELS, item.path, (width, height))
        return sample, Problems.of(found)

    def _resized(self, image: Pixels) -> tuple[Floats, Placement]:
        if self.letterbox:
            return letterbox_darknet(image, self.task.width, self.task.height)
        return resize_darknet(image, self.task.width, self.task.height), WHOLE


def moved(boxes: Boxes, placement: Placement) -> Boxes:
    """Boxes (M, 5) relative to an image → relative to the input in which it lies."""
    if placement == WHOLE:
        return boxes
    x, y, width, height = placement
    scale = np.array([1, width, height, width, height], np.float32)
    return boxes * scale + np.array([0, x, y, 0, 0], np.float32)
