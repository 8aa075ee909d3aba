"""[region]"""

import functools

from yolo.heads.region.decode import RegionHead
from yolo.heads.region.loss import RegionLoss
from yolo.heads.region.teaching import RegionTeaching
from yolo.layers.base import register


@register("region")
class Region(RegionHead):
    """YOLOv2's head, with its loss."""

    @functools.cached_property
    def rule(self) -> RegionLoss:
        return RegionLoss(self)

    def teaching(self) -> RegionTeaching:
        return RegionTeaching(self)
