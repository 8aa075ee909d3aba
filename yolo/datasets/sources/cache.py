"""Decoded images in memory that all loader processes share."""

from __future__ import annotations

import functools
import mmap
import multiprocessing

import numpy as np

from yolo.datasets.images import Pixels, read_image

MEBIBYTE = 2**20
COLUMNS = 4  # of the table: 1 + start, height, width, channels


class ImageCache:
    """Keeps the images that are read first, up to `mebibytes`; memory is used only as it fills.

    An epoch reads every image once, so replacing older images would lose them before they are read
    again. Worker processes must be forked after the cache was made.
    """

    def __init__(self, paths: tuple[str, ...], channels: int, mebibytes: int) -> None:
        self._paths, self._channels = paths, channels
        # anonymous: inherited by forks, and not limited by what /dev/shm may hold
        self._store = np.frombuffer(mmap.mmap(-1, mebibytes * MEBIBYTE), np.uint8)
        size = (len(paths) * COLUMNS + 1) * 8
        table = np.frombuffer(mmap.mmap(-1, size), np.int64)
        self._used, self._table = table[:1], table[1:].reshape(-1, COLUMNS)
        self._lock = multiprocessing.Lock()

    def read(self, index: int) -> Pixels:
        """The image as from read_image; don't write to the array, which belongs to the cache."""
        start, *shape = self._table[index].tolist()
        if start:
            size = shape[0] * shape[1] * shape[2]
            return self._store[start - 1 : start - 1 + size].reshape(shape)
        image = read_image(self._paths[index], self._channels)
        self._keep(index, image)
        return image

    @property
    def images(self) -> int:
        """Number of images in the cache."""
        return int((self._table[:, 0] > 0).sum())

    def _keep(self, index: int, image: Pixels) -> None:
        with self._lock:
            start = int(self._used[0])
            if self._table[index, 0] or start + image.size > self._store.size:
                return
            self._used[0] = start + image.size
        self._store[start : start + image.size] = image.reshape(-1)
        self._table[index, 1:] = image.shape
        self._table[index, 0] = start + 1  # last, as other processes read the image from now on


@functools.lru_cache(maxsize=1)
def image_cache(paths: tuple[str, ...], channels: int, mebibytes: int) -> ImageCache:
    """The cache for these images, always the same one, so that it outlives an epoch."""
    return ImageCache(paths, channels, mebibytes)
