"""[detection]: YOLOv1's boxes."""

from yolo.heads.detection.head import Detection

__all__ = ["Detection"]
