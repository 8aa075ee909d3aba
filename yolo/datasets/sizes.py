"""Multi-scale training: the input's size at every step, from `random=` of the last head."""

from __future__ import annotations

import math
from dataclasses import dataclass

from yolo.cfg import Section
from yolo.datasets.augment.color import draw_scale
from yolo.datasets.order import SIZE, generator
from yolo.datasets.task import Task

USUAL = 1.4  # largest factor of random=1
EVERY = 10  # steps


@dataclass(frozen=True)
class Sizes:
    """Sizes that vary by factors from 1 / `largest` to `largest`; 0 for a fixed size."""

    width: int
    height: int
    largest: float = 0.0
    step: int = 32

    @classmethod
    def of(cls, net: Section, task: Task, largest: float) -> Sizes:
        """Sizes for a head's random=, `largest`, where 1 means 1.4; raises CfgError."""
        step = int(net.number("resize_step", 32))
        if step < 1:
            raise net.error(f"resize_step={step} is not positive", "resize_step")
        return cls(task.width, task.height, USUAL if largest == 1 else largest, step)

    def at(self, seed: int, step: int) -> tuple[int, int]:
        """Width and height at a step since the start of training (train_detector of detector.c).

        The first steps have the largest size, so that too little memory shows at once.
        """
        if not self.largest:
            return self.width, self.height
        if step < EVERY:
            return self._scaled(self.largest)
        scale = draw_scale(self.largest, generator(seed, SIZE, step // EVERY))
        width, height = self._scaled(scale)
        if scale < 1 and (width > self.width or height > self.height):
            return self.width, self.height
        return width, height

    def _scaled(self, scale: float) -> tuple[int, int]:
        # Darknet adds one step before it rounds
        width, height = (
            max(1, math.floor(scale * length / self.step + 1.5)) * self.step
            for length in (self.width, self.height)
        )
        return width, height
