"""Files and folders that hold many images."""

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
    """A file or folder of many images; `where` is the line that names it: file:line."""

    path: Path
    where: str

    @classmethod
    @abstractmethod
    def suits(cls, path: Path) -> bool:
        """True where the name of a path, or the content of a folder, is of this kind."""

    @abstractmethod
    def names(self, classes: int | None) -> tuple[str, ...]:
        """Class names from the file, `classes` of them where given; raises DataError."""

    @abstractmethod
    def items(self, split: Split, names: tuple[str, ...]) -> Items:
        """Its images for this split; raises DataError."""


def check_named(labels: Array, names: Sequence[str], where: str) -> None:
    """Raises DataError for a label without a name."""
    if labels.max() >= len(names):
        raise DataError(f"{where}: labels up to {labels.max()}, but {len(names)} names")


def numbered(name: str, images: NDArray[Any]) -> list[str]:
    """Names of images: NAME[0], NAME[1] …"""
    return [f"{name}[{number}]" for number in range(len(images))]
