"""[ssd]: boxes from several maps, each a shift of one of its place's prior boxes."""

from yolo.heads.ssd.head import Ssd, only_ssd
from yolo.heads.ssd.prior_boxes import CLIP_NUMBERS

__all__ = ["CLIP_NUMBERS", "Ssd", "only_ssd"]
