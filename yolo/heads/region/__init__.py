"""[region]: boxes from anchors on a grid, of YOLOv2."""

from yolo.heads.region.head import Region

__all__ = ["Region"]
