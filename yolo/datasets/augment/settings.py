"""Settings of the augmentation, from [net] and the last head with boxes; Darknet's defaults."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo.cfg import Section
from yolo.datasets.augment.ssd_crop import SsdCrops
from yolo.datasets.augment.views import Views
from yolo.datasets.order import draw_integer
from yolo.datasets.task import Task

NONE, MIXUP, CUTMIX, MOSAIC, CUTMIX_OR_MOSAIC = range(5)  # mixup= of [net]

NEAREST = 0.2  # a mosaic is cut at least so far from its edges


def draw_cut(length: int, random: np.random.Generator) -> int:
    """Draw the position at which a mosaic of this width, or height, is cut."""
    low, high = int(length * NEAREST), int(length * (1 - NEAREST))
    return draw_integer(max(1, low), max(1, high), random)


@dataclass(frozen=True)
class Augmentation:
    """Settings of parse_net_options (parser.c); `jitter` and `resize` come from the last head.

    `min_crop`, `max_crop`, `angle` (degrees), `aspect` and `label_smooth` are for classifiers,
    `jitter`, `resize`, `letter_box`, `mosaic_bound`, `noise` and `ssd` for detectors; `ssd`, where
    it is given, replaces `jitter` and `resize`.
    """

    flip: bool = True
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    mixing: int = NONE
    blur: int = 0
    jitter: float = 0.2
    resize: float = 1.0
    letter_box: bool = False
    mosaic_bound: bool = False
    noise: int = 0
    min_crop: int = 0
    max_crop: int = 0
    angle: float = 0.0
    aspect: float = 1.0
    label_smooth: float = 0.0
    ssd: SsdCrops | None = None

    @classmethod
    def of(cls, net: Section, task: Task, views: Views) -> Augmentation:
        """The settings of [net] and of the head; raises CfgError for invalid ones."""
        mixing = _mixing(net, task.is_detector)
        if mixing == MOSAIC and net.flag("letter_box") and task.is_detector:
            message = "mosaic=1 can't be combined with letter_box=1: remove one of them"
            raise net.error(message, "letter_box")
        return cls(
            flip=net.flag("flip", True),
            hue=net.number("hue", 0.0),
            saturation=_positive(net, "saturation"),
            exposure=_positive(net, "exposure"),
            mixing=mixing,
            blur=net.integer("blur", 0),
            jitter=views.jitter,
            resize=views.resize,
            letter_box=net.flag("letter_box"),
            mosaic_bound=net.flag("mosaic_bound"),
            noise=min(net.integer("gaussian_noise", 0), 127),
            min_crop=net.integer("min_crop", task.width, 1),
            max_crop=net.integer("max_crop", task.width * 2, 1),
            angle=net.number("angle", 0.0),
            aspect=_positive(net, "aspect"),
            label_smooth=net.number("label_smooth_eps", 0.0),
            ssd=views.patches,
        )

    def keeps(self, width: int, height: int) -> bool:
        """True where a classifier's image of this size is never changed, whatever is drawn."""
        color = (self.hue, self.saturation, self.exposure, self.blur) == (0, 1, 1, 0)
        geometry = (self.flip, self.angle, self.aspect, self.mixing) == (False, 0, 1, NONE)
        return color and geometry and self.min_crop == self.max_crop == width == height


def _mixing(net: Section, is_detector: bool) -> int:
    """The value of mixup=, which mosaic= and cutmix= override; detectors have no cutmix."""
    mixing = net.integer("mixup", NONE, NONE, CUTMIX_OR_MOSAIC)
    mosaic, cutmix = net.flag("mosaic"), net.flag("cutmix")
    if mosaic or cutmix:
        mixing = CUTMIX_OR_MOSAIC if mosaic and cutmix else MOSAIC if mosaic else CUTMIX
    if is_detector:
        return {CUTMIX: NONE, CUTMIX_OR_MOSAIC: MOSAIC}.get(mixing, mixing)
    return mixing


def _positive(net: Section, key: str) -> float:
    """A factor; 0 means 1, as some old cfgs write it."""
    value = net.number(key, 1.0)
    if value < 0:
        raise net.error(f"{key}={value:g} is negative", key)
    return value or 1.0
