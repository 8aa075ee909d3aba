"""Files and folders that hold images by the thousand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.datasets.data import Split
from yolo.datasets.items import Items
from yolo.errors import DataError

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Packed(ABC):
    """One of them; `where` it is named: file:line."""

    path: Path
    where: str

    @classmethod
    @abstractmethod
    def suits(cls, path: Path) -> bool:
        """Tell by its name, or by what is in the folder, that a path is one."""

    @abstractmethod
    def names(self, classes: int | None) -> tuple[str, ...]:
        """Its own names for its classes, of which there should be so many; raises DataError."""

    @abstractmethod
    def items(self, split: Split, names: tuple[str, ...]) -> Items:
        """Its images for this split; raises DataError."""


def check_named(labels: Array, names: Sequence[str], where: str) -> None:
    """Raises DataError for a label without a name."""
    if labels.max() >= len(names):
        raise DataError(f"{where}: labels up to {labels.max()}, but {len(names)} names")


def numbered(name: str, images: NDArray[Any]) -> list[str]:
    """NAME[0], NAME[1] … for as many images."""
    return [f"{name}[{number}]" for number in range(len(images))]
