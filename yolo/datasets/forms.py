"""Files that hold images by the thousand: how they are told from lists and folders of images."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from yolo.datasets.data import Split
from yolo.datasets.items import Items

IDX = re.compile(r"[-.]idx\d-ubyte(\.gz)?$")
PACKED = re.compile(r"_batch[^/]*\.bin$|\.(tar(\.\w+)?|tgz|tbz2?|txz)$")
BATCHES = ("*_batch*.bin", "cifar-10-batches-bin/*_batch*.bin")  # in a folder


@dataclass(frozen=True)
class Form(ABC):
    """Such a file or folder; `where` it is named: file:line."""

    path: Path
    where: str

    @abstractmethod
    def names(self, classes: int | None) -> tuple[str, ...]:
        """What it calls its classes, of which there should be so many; raises DataError."""

    @abstractmethod
    def items(self, split: Split, names: tuple[str, ...]) -> Items:
        """Its images for this split; raises DataError."""


def form_of(place: str, where: str) -> Form | None:
    """None for lists and folders of images."""
    is_idx, is_cifar = bool(IDX.search(place)), bool(PACKED.search(place))
    path = Path(place)
    if path.is_dir():
        is_idx, is_cifar = False, any(True for batch in BATCHES for _ in path.glob(batch))
    if not is_idx and not is_cifar:
        return None
    from yolo.datasets.packed import Cifar, Idx  # they need torch, and lists don't

    return Idx(path, where) if is_idx else Cifar(path, where)
