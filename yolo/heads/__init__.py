"""Decode (and loss) of each output section; importing this package registers them."""

from yolo.heads import detection, region, softmax, ssd, yolo

__all__ = ["detection", "region", "softmax", "ssd", "yolo"]
