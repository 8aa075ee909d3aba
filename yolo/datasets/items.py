"""The images of a split as the loaders see them, whatever their source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from yolo.datasets.images import Pixels
from yolo.datasets.labels import Labels

Reader = Callable[[int], Pixels]


class Items(ABC):
    """The images of a split with their truths, by index.

    `names`: for messages; the paths of images that are files of their own.
    """

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def reader(self, channels: int, cache: int = 0) -> Reader:
        """A function that returns a read-only image (H, W, C), or raises DataError.

        `cache`: MiB of decoded files to keep. Images in memory are shared with worker processes
        that are forked afterwards.
        """

    @abstractmethod
    def class_of(self, index: int) -> int:
        """The class of a classifier's image; raises DataError."""

    @abstractmethod
    def boxes(self, index: int, classes: int, *, clip: bool = True) -> Labels:
        """The boxes of a detector's image, as from read_labels; raises DataError."""

    @abstractmethod
    def check_boxes(self) -> None:
        """Raises DataError where no image can have a box."""

    def difficult(self, index: int, classes: int) -> NDArray[np.float32]:
        """Boxes (M, 5) of the objects that mAP ignores, not clipped; raises DataError."""
        return np.zeros((0, 5), np.float32)

    def stack(self, indices: Sequence[int] | NDArray[np.int64], channels: int) -> Pixels | None:
        """Several images (N, H, W, C); None where they must be read one by one."""
        return None
