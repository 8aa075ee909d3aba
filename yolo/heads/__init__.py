"""Decode (and loss) of each output section; importing this package registers them."""

from yolo.heads import detection, region, softmax, yolo

__all__ = ["detection", "region", "softmax", "yolo"]
