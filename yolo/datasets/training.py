"""Mini-batches for training: shuffled, augmented, of changing size, reproducible."""

from __future__ import annotations

import numpy as np

from yolo.datasets import sources
from yolo.datasets.augment.classifier import classifier_sample
from yolo.datasets.augment.detector import detector_sample
from yolo.datasets.augment.settings import Augmentation
from yolo.datasets.data import Data
from yolo.datasets.images import Pixels
from yolo.datasets.labels import Labels, Problems
from yolo.datasets.loading import Loaded, Loader, Unreadable
from yolo.datasets.order import SAMPLE, Epoch, generator
from yolo.datasets.sample import NO_BOXES, NO_LABELS, Sample, collate, one_hot, whole_batch
from yolo.datasets.sizes import Sizes
from yolo.datasets.task import Task
from yolo.errors import DataError


class TrainingLoader(Loader):
    """The mini-batches of one process in one epoch, from step `start` on; uint8 images."""

    def __init__(
        self,
        data: Data,
        task: Task,
        epoch: Epoch,
        sizes: Sizes,
        settings: Augmentation,
        cache: int,
        start: int,
        workers: int,
    ) -> None:
        super().__init__(workers)
        self.data, self.items, self.task = data, sources.items(data, "train"), task
        self.epoch, self.sizes, self.settings, self.start = epoch, sizes, settings, start
        if task.is_detector:
            self.items.check_boxes()
        self.read = self.items.reader(task.channels, cache)
        self._is_whole = self._comes_whole()
        if self._is_whole:
            self.workers = 0  # passing a mini-batch between processes takes longer than making it
        self._vary = detector_sample if task.is_detector else classifier_sample

    def __len__(self) -> int:
        return max(0, self.epoch.steps - self.start) * self.epoch.mini_batches

    def load(self, number: int) -> Loaded:
        step, mini_batch = divmod(number, self.epoch.mini_batches)
        step += self.start
        size = self.sizes.at(self.epoch.seed, self.epoch.number * self.epoch.steps + step)
        positions = self.epoch.positions(step, mini_batch)
        if self._is_whole:
            return self._whole(positions)
        return self._one_by_one(positions, *size)

    def _comes_whole(self) -> bool:
        """True where images are in memory and nothing can change them."""
        size = (self.sizes.width, self.sizes.height)
        if self.task.is_detector or not self.settings.keeps(*size):
            return False
        first = self.items.stack([0], self.task.channels)
        return first is not None and first.shape[2:0:-1] == size

    def _whole(self, positions: range) -> Loaded:
        task, smooth = self.task, self.settings.label_smooth
        indices = self.epoch.images_at(positions).tolist()
        images = self.items.stack(indices, task.channels)
        assert images is not None
        return Loaded(whole_batch(images, self.items, indices, task.classes, smooth))

    def _one_by_one(self, positions: range, width: int, height: int) -> Loaded:
        samples: list[Sample] = []
        skipped: list[Unreadable] = []
        problems = Problems()
        for position in positions:
            random = generator(self.epoch.seed, SAMPLE, self.epoch.number, position)
            sample, truths = self._sample(position, width, height, random, skipped)
            samples.append(sample)
            # the images that fill the last step are counted already
            if truths and position < self.epoch.images:
                problems += Problems.of(truths)
        return Loaded(collate(samples), tuple(skipped), problems)

    def _sample(
        self,
        position: int,
        width: int,
        height: int,
        random: np.random.Generator,
        skipped: list[Unreadable],
    ) -> tuple[Sample, Labels | None]:
        own, truths = self._stored(self.epoch.image(position), skipped)

        def another() -> Sample:
            return self._stored(int(random.integers(len(self.items))), skipped)[0]

        return self._vary(own, another, self.settings, width, height, random), truths

    def _stored(self, index: int, skipped: list[Unreadable]) -> tuple[Sample, Labels | None]:
        """An image with its truth, or the next one that can be read, so that steps stay full."""
        for offset in range(len(self.items)):
            number = (index + offset) % len(self.items)
            try:
                image = self.read(number)
            except DataError as error:
                skipped.append((self.items.names[number], str(error)))
            else:
                return self._with_truth(number, image)
        raise DataError(f"{self.data.path}: no image of train can be read: {skipped[0][1]}")

    def _with_truth(self, index: int, image: Pixels) -> tuple[Sample, Labels | None]:
        path, task, size = self.items.names[index], self.task, (image.shape[1], image.shape[0])
        if not task.is_detector:
            number = self.items.class_of(index)
            labels = one_hot(number, task.classes, self.settings.label_smooth)
            return Sample(image, NO_BOXES, labels, path, size), None
        truths = self.items.boxes(index, task.classes)
        return Sample(image, truths.boxes, NO_LABELS, path, size), truths
