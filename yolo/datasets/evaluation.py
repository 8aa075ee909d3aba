"""Images and truths prepared exactly as Darknet's evaluations do it."""

from __future__ import annotations

from collections.abc import Sequence

from yolo.datasets import sources
from yolo.datasets.data import Data, Split
from yolo.datasets.images import Floats, Pixels
from yolo.datasets.labels import Problems
from yolo.datasets.loading import Loaded, Loader, Unreadable
from yolo.datasets.resize import (
    center_crop_darknet,
    is_kept_whole,
    letterbox_darknet,
    resize_darknet,
    to_floats,
)
from yolo.datasets.sample import (
    NO_BOXES,
    NO_LABELS,
    Sample,
    collate,
    one_hot,
    whole_batch,
)
from yolo.datasets.task import Task
from yolo.errors import DataError


class EvaluationLoader(Loader):
    """All images of a split in the order of the list; float32 in [0, 1].

    Boxes are relative to the image files, even where `letterbox` adds grey around the images.
    """

    def __init__(
        self, data: Data, task: Task, split: Split, batch: int, workers: int, letterbox: bool
    ) -> None:
        super().__init__(workers)
        self.data, self.task, self.letterbox = data, task, letterbox
        self.items, self.batch = sources.items(data, split), batch
        if task.is_detector:
            self.items.check_boxes()
        self.read = self.items.reader(task.channels)
        self._is_whole = self._comes_whole()
        if self._is_whole:
            self.workers = 0  # passing a batch between processes takes longer than making it

    def __len__(self) -> int:
        return -(-len(self.items) // self.batch)

    def load(self, number: int) -> Loaded:
        first = number * self.batch
        indices = range(first, min(first + self.batch, len(self.items)))
        return self._whole(indices) if self._is_whole else self._one_by_one(indices)

    def _comes_whole(self) -> bool:
        """True where images are in memory and none needs to be resized or cut."""
        if self.task.is_detector:
            return False
        first = self.items.stack([0], self.task.channels)
        return first is not None and is_kept_whole(first[0], self.task.width, self.task.height)

    def _whole(self, indices: Sequence[int]) -> Loaded:
        images = self.items.stack(indices, self.task.channels)
        assert images is not None
        batch = whole_batch(to_floats(images), self.items, indices, self.task.classes)
        return Loaded(batch)

    def _one_by_one(self, indices: Sequence[int]) -> Loaded:
        samples: list[Sample] = []
        skipped: list[Unreadable] = []
        problems = Problems()
        for index in indices:
            try:
                image = self.read(index)
            except DataError as error:
                skipped.append((self.items.names[index], str(error)))
                continue
            sample, problem = self._sample(index, image)
            samples.append(sample)
            problems += problem
        return Loaded(collate(samples) if samples else None, tuple(skipped), problems)

    def _sample(self, index: int, image: Pixels) -> tuple[Sample, Problems]:
        height, width = image.shape[:2]
        task, path = self.task, self.items.names[index]
        if not task.is_detector:
            pixels = center_crop_darknet(image, task.width, task.height)
            labels = one_hot(self.items.class_of(index), task.classes)
            return Sample(pixels, NO_BOXES, labels, path, (width, height)), Problems()
        truths = self.items.boxes(index, task.classes, clip=False)
        difficult = self.items.difficult(index, task.classes)
        pixels = self._resized(image)
        sample = Sample(pixels, truths.boxes, NO_LABELS, path, (width, height), difficult)
        return sample, Problems.of(truths)

    def _resized(self, image: Pixels) -> Floats:
        if self.letterbox:
            return letterbox_darknet(image, self.task.width, self.task.height)[0]
        return resize_darknet(image, self.task.width, self.task.height)
