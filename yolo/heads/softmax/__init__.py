"""[softmax] and [cost]: the ends of classifiers."""

from yolo.heads.softmax.cost import CostHead
from yolo.heads.softmax.head import Softmax

__all__ = ["CostHead", "Softmax"]
