"""Images in memory, decoded once for all epochs and loader processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from yolo.datasets.images import Pixels, decode, in_channels
from yolo.datasets.items import Items, Reader
from yolo.datasets.labels import Labels
from yolo.errors import DataError

# (N, H, W, C) where all have one size, else a list
Decoded = NDArray[np.uint8] | list[Pixels | DataError]
Indices = Sequence[int] | NDArray[np.int64]


class Arrays(Items):
    """Images in memory with a class each; `where` is the line of the .data file that names them.

    `decoded` returns all of them with a given number of channels; an image that can't be decoded is
    a DataError.
    """

    def __init__(
        self,
        names: Sequence[str],
        classes: NDArray[np.uint8] | Sequence[int],
        decoded: Callable[[int], Decoded],
        where: str,
    ) -> None:
        self.names, self.classes = tuple(names), np.asarray(classes, np.int64)
        self.decoded, self.where = decoded, where
        self._kept: dict[int, Decoded] = {}

    def reader(self, channels: int, cache: int = 0) -> Reader:
        self._images(channels)
        return partial(self._read, channels)

    def class_of(self, index: int) -> int:
        return int(self.classes[index])

    def boxes(self, index: int, classes: int, *, clip: bool = True) -> Labels:
        raise DataError(f"{self.where}: these images have classes but no boxes")

    def check_boxes(self) -> None:
        self.boxes(0, 0)

    def stack(self, indices: Indices, channels: int) -> Pixels | None:
        images = self._images(channels)
        return images[indices] if isinstance(images, np.ndarray) else None

    def _images(self, channels: int) -> Decoded:
        if channels not in self._kept:
            self._kept[channels] = self.decoded(channels)
        return self._kept[channels]

    def _read(self, channels: int, index: int) -> Pixels:
        image = self._kept[channels][index]
        if isinstance(image, DataError):
            raise image
        return image


def of_pixels(
    pixels: NDArray[np.uint8], classes: NDArray[np.uint8], names: Sequence[str], where: str
) -> Arrays:
    """Images (N, H, W, C), RGB or grey, with their classes (N,)."""
    contiguous = np.array(pixels, order="C")  # makes reading one image faster
    return Arrays(names, classes, partial(in_channels, contiguous), where)


def of_files(contents: Mapping[str, bytes], classes: Sequence[int], where: str) -> Arrays:
    """Images from encoded files by name, with their classes."""
    return Arrays(tuple(contents), classes, partial(_decode_all, contents), where)


def _decode_all(contents: Mapping[str, bytes], channels: int) -> Decoded:
    decoded = [_decode(content, name, channels) for name, content in contents.items()]
    images = [image for image in decoded if not isinstance(image, DataError)]
    alike = len(images) == len(decoded) and len({image.shape for image in images}) == 1
    return np.stack(images) if alike else decoded


def _decode(content: bytes, name: str, channels: int) -> Pixels | DataError:
    try:
        return decode(content, name, channels)
    except DataError as error:
        return error
