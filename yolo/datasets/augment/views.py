"""A head's settings of how its training images are cropped and scaled."""

from __future__ import annotations

from dataclasses import dataclass

from yolo.cfg import Section
from yolo.datasets.augment.ssd_crop import SsdCrops


@dataclass(frozen=True)
class Views:
    """Settings of the last head with boxes; the defaults are a classifier's.

    `patches`, where given, replace `jitter` and `resize`; `random` is the largest factor by which
    the input's size changes, 1 for Darknet's own and 0 for none.
    """

    jitter: float = 0.2
    resize: float = 1.0
    patches: SsdCrops | None = None
    random: float = 0.0

    @classmethod
    def of(cls, head: Section, *, patches: bool) -> Views:
        """The settings of a head; raises CfgError for invalid ones."""
        random = head.number("random", 0.0)
        if random < 0:
            raise head.error(f"random={random:g} is negative", "random")
        if patches:
            return cls(patches=SsdCrops.of(head), random=random)
        jitter, resize = head.number("jitter", 0.2), head.number("resize", 1.0)
        if jitter < 0:
            raise head.error(f"jitter={jitter:g} is negative", "jitter")
        if resize <= 0:
            raise head.error(f"resize={resize:g} is not positive", "resize")
        return cls(jitter, resize, random=random)
