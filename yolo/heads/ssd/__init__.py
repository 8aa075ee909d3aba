"""[ssd]: boxes from several maps, each a shifted prior box of its cell."""

from yolo.heads.ssd.head import Ssd, only_ssd
from yolo.heads.ssd.prior_boxes import CLIP_NUMBERS

__all__ = ["CLIP_NUMBERS", "Ssd", "only_ssd"]
