"""The keys of a [yolo] or [Gaussian_yolo] section that its loss reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

from yolo.boxes import KINDS
from yolo.cfg import Section

IOU_KINDS = {kind: kind for kind in KINDS}
IOU_LOSSES = {"mse": "mse", **IOU_KINDS}


@dataclass(frozen=True)
class LossOptions:
    """Keys of the section, with parser.c's defaults.

    `multipliers` hold one factor a class, from counters_per_class; None where it isn't given.
    """

    iou_loss: str
    iou_thresh_kind: str
    iou_normalizer: float
    obj_normalizer: float
    cls_normalizer: float
    delta_normalizer: float
    uc_normalizer: float
    ignore_thresh: float
    truth_thresh: float
    iou_thresh: float
    label_smooth_eps: float
    max_delta: float
    objectness_smooth: bool
    focal_loss: bool
    multipliers: tuple[float, ...] | None

    @classmethod
    def read(cls, section: Section, classes: int) -> LossOptions:
        """The keys of a section; raises CfgError for invalid values and unsupported keys."""
        if section.has("map"):
            raise section.error("map= (other class numbers) is not supported in training", "map")
        max_delta = section.number("max_delta", math.inf)
        return cls(
            iou_loss=section.choice("iou_loss", "mse", IOU_LOSSES),
            iou_thresh_kind=section.choice("iou_thresh_kind", "iou", IOU_KINDS),
            iou_normalizer=section.number("iou_normalizer", 0.75),
            obj_normalizer=section.number("obj_normalizer", 1.0),
            cls_normalizer=section.number("cls_normalizer", 1.0),
            delta_normalizer=section.number("delta_normalizer", 1.0),
            uc_normalizer=section.number("uc_normalizer", 1.0),
            ignore_thresh=section.number("ignore_thresh", 0.5),
            truth_thresh=section.number("truth_thresh", 1.0),
            iou_thresh=section.number("iou_thresh", 1.0),
            label_smooth_eps=section.number("label_smooth_eps", 0.0),
            max_delta=max_delta,
            objectness_smooth=section.flag("objectness_smooth"),
            focal_loss=section.flag("focal_loss"),
            multipliers=_multipliers(section, classes, max_delta),
        )


def _multipliers(section: Section, classes: int, most: float) -> tuple[float, ...] | None:
    """A factor for each class, larger for rare ones: largest counter / own, at most max_delta."""
    key = "counters_per_class"
    if not section.has(key):
        return None
    counters = [max(count, 1) for count in section.integers(key)]
    if len(counters) != classes:
        raise section.error(f"{key} has {len(counters)} values for {classes} classes", key)
    return tuple(min(max(counters) / count, most) for count in counters)
