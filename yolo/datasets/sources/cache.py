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
    """Keeps the images that come first, up to `mebibytes`; the memory is taken as it fills.

    An epoch sees every image once: to push older images out would only lose them before their turn.
    Worker processes must be forked after it was made.
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
        """As read_image; the array belongs to the cache: don't write to it."""
        start, *shape = self._table[index].tolist()
        if start:
            size = shape[0] * shape[1] * shape[2]
            return self._store[start - 1 : start - 1 + size].reshape(shape)
        image = read_image(self._paths[index], self._channels)
        self._keep(index, image)
        return image

    @property
    def images(self) -> int:
        """How many it holds."""
        return int((self._table[:, 0] > 0).sum())

    def _keep(self, index: int, image: Pixels) -> None:
        with self._lock:
            start = int(self._used[0])
            if self._table[index, 0] or start + image.size > self._store.size:
                return
            self._used[0] = start + image.size
        self._store[start : start + image.size] = image.reshape(-1)
        self._table[index, 1:] = image.shape
        self._table[index, 0] = start + 1  # last: from now on others read it


@functools.lru_cache(maxsize=1)
def image_cache(paths: tuple[str, ...], channels: int, mebibytes: int) -> ImageCache:
    """The same cache for the same images, so that it outlives an epoch."""
    return ImageCache(paths, channels, mebibytes)
