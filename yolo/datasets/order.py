"""The order of images and the random numbers for each: all of it follows from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from yolo.errors import DataError

ORDER, SAMPLE, SIZE = range(3)  # purposes of random numbers


def generator(seed: int, purpose: int, *numbers: int) -> np.random.Generator:
    """A generator for one purpose, epoch, position …, independent of all others."""
    # the purpose must not come last: SeedSequence pads with zeros
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose, *numbers])))


def draw_integer(low: int, high: int, random: np.random.Generator) -> int:
    """Draw an integer between the two, included, whichever is larger (rand_int of utils.c)."""
    return int(random.integers(min(low, high), max(low, high), endpoint=True))


@dataclass(frozen=True)
class Epoch:
    """A permutation of `images` images, cut into steps of `batch` and those into mini-batches.

    The last step is filled from the start of the permutation. Positions count from 0 to
    steps · batch − 1. Several processes (`world`) get whole mini-batches in turn where their number
    divides the subdivisions, else each gets its share of every mini-batch. Raises DataError where a
    process would get an empty mini-batch.
    """

    images: int
    batch: int
    subdivisions: int
    seed: int
    number: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if min(len(positions) for positions in self._shares(0, 0)) == 0 or self.steps < 1:
            raise DataError(
                f"batch={self.batch} with subdivisions={self.subdivisions} is too small "
                f"for {self.world} processes: use a larger batch, or fewer processes"
            )

    @property
    def steps(self) -> int:
        return -(-self.images // self.batch)

    @property
    def mini_batches(self) -> int:
        """Number of mini-batches of one process in a step."""
        return self.subdivisions // self.world if self._in_turn else self.subdivisions

    @cached_property
    def permutation(self) -> NDArray[np.int64]:
        return generator(self.seed, ORDER, self.number).permutation(self.images)

    def image(self, position: int) -> int:
        return int(self.permutation[position % self.images])

    def images_at(self, positions: range) -> NDArray[np.int64]:
        return self.permutation[np.arange(positions.start, positions.stop) % self.images]

    def positions(self, step: int, mini_batch: int) -> range:
        """Positions of a mini-batch of this process."""
        if self._in_turn:
            return self._mini_batch(step, mini_batch * self.world + self.rank)
        return self._shares(step, mini_batch)[self.rank]

    @property
    def _in_turn(self) -> bool:
        return self.subdivisions % self.world == 0

    def _mini_batch(self, step: int, mini_batch: int) -> range:
        whole = range(step * self.batch, (step + 1) * self.batch)
        return _parts(whole, self.subdivisions)[mini_batch]

    def _shares(self, step: int, mini_batch: int) -> list[range]:
        whole = self._mini_batch(step, mini_batch)
        return [whole] if self._in_turn else _parts(whole, self.world)


def _parts(whole: range, count: int) -> list[range]:
    """Contiguous parts, as even as can be."""
    edges = [len(whole) * part // count for part in range(count + 1)]
    return [whole[low:high] for low, high in pairwise(edges)]
