"""[yolo] and [Gaussian_yolo]: boxes from anchors on a grid, of YOLOv3 and later."""

from yolo.heads.yolo.head import GaussianYolo, Yolo

__all__ = ["GaussianYolo", "Yolo"]
