"""Mini-batches for training: shuffled, augmented, of changing size, reproducible."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from yolo.datasets.augment import Augmentation
from yolo.datasets.classifier import classifier_sample
from yolo.datasets.data import Data, Item
from yolo.datasets.detector import detector_sample
from yolo.datasets.images import Pixels
from yolo.datasets.labels import Problems, check_labels, read_labels
from yolo.datasets.loading import Loaded, Loader, Skipped
from yolo.datasets.order import SAMPLE, Epoch, generator
from yolo.datasets.sample import NO_BOXES, NO_LABELS, Sample, collate, one_hot
from yolo.datasets.sizes import Sizes
from yolo.datasets.task import Task
from yolo.errors import DataError


class TrainingLoader(Loader):
    """The mini-batches of one process in one epoch, from step `start` on; uint8 images."""

    def __init__(
        self,
        data: Data,
        items: Sequence[Item],
        task: Task,
        epoch: Epoch,
        sizes: Sizes,
        settings: Augmentation,
        read: Callable[[int], Pixels],
        start: int,
        workers: int,
    ) -> None:
        super().__init__(workers)
        self.data, self.task, self.epoch, self.sizes = data, task, epoch, sizes
        self.settings, self.read, self.start = settings, read, start
        self.items = items
        if task.is_detector:
            check_labels([item.path for item in items])
        self._vary = detector_sample if task.is_detector else classifier_sample

    def __len__(self) -> int:
        return max(0, self.epoch.steps - self.start) * self.epoch.mini_batches

    def load(self, number: int) -> Loaded:
        step, mini_batch = divmod(number, self.epoch.mini_batches)
        step += self.start
        size = self.sizes.at(self.epoch.seed, self.epoch.number * self.epoch.steps + step)
        samples: list[Sample] = []
        skipped: list[Skipped] = []
        problems = Problems()
        for position in self.epoch.positions(step, mini_batch):
            sample, found = self._sample(position, *size, skipped)
            samples.append(sample)
            # the images that fill the last step have been counted
            problems += found if position < self.epoch.images else Problems()
        return Loaded(collate(samples), tuple(skipped), problems)

    def _sample(
        self, position: int, width: int, height: int, skipped: list[Skipped]
    ) -> tuple[Sample, Problems]:
        random = generator(self.epoch.seed, SAMPLE, self.epoch.number, position)
        own, problems = self._stored(self.epoch.image(position), skipped)

        def another() -> Sample:
            return self._stored(int(random.integers(len(self.items))), skipped)[0]

        return self._vary(own, another, self.settings, width, height, random), problems

    def _stored(self, index: int, skipped: list[Skipped]) -> tuple[Sample, Problems]:
        """An image with its truth, or the next of the list that can be read: steps stay full."""
        for offset in range(len(self.items)):
            item = self.items[(index + offset) % len(self.items)]
            try:
                image = self.read((index + offset) % len(self.items))
            except DataError as error:
                skipped.append((item.path, str(error)))
                continue
            size = (image.shape[1], image.shape[0])
            if not self.task.is_detector:
                number = self.data.class_of(item)
                labels = one_hot(number, self.task.classes, self.settings.label_smooth)
                return Sample(image, NO_BOXES, labels, item.path, size), Problems()
            found = read_labels(item.path, self.task.classes)
            return Sample(image, found.boxes, NO_LABELS, item.path, size), Problems.of(found)
        raise DataError(f"{self.data.path}: no image of train can be read: {skipped[0][1]}")
