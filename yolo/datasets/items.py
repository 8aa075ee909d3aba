"""The images of a split as the loaders see them, wherever those come from."""

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

    `names`: what messages call them, their paths where they are files of their own.
    """

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def reader(self, channels: int, cache: int = 0) -> Reader:
        """A function that gives an image as (H, W, C), not to be written to; it raises DataError.

        `cache`: MiB of decoded files to keep. What is in memory is shared with worker processes
        that are forked afterwards.
        """

    @abstractmethod
    def class_of(self, index: int) -> int:
        """The class of a classifier's image; raises DataError."""

    @abstractmethod
    def boxes(self, index: int, classes: int, *, clip: bool = True) -> Labels:
        """The boxes of a detector's image, as read_labels has them; raises DataError."""

    @abstractmethod
    def check_boxes(self) -> None:
        """Raises DataError where no image can have a box."""

    def difficult(self, index: int, classes: int) -> NDArray[np.float32]:
        """(M, 5) boxes of the objects that mAP ignores, as they stand; raises DataError."""
        return np.zeros((0, 5), np.float32)

    def stack(self, indices: Sequence[int] | NDArray[np.int64], channels: int) -> Pixels | None:
        """(N, H, W, C) of several images; None where they must be read one by one."""
        return None
