"""[ssd]"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from yolo.errors import CfgError
from yolo.heads.ssd.decode import PriorHead
from yolo.heads.ssd.loss import MultiboxLoss
from yolo.layers.base import Layer, register


@register("ssd")
class Ssd(PriorHead):
    """SSD's head, with its loss."""

    @functools.cached_property
    def rule(self) -> MultiboxLoss:
        return MultiboxLoss(self)

    def described(self, locate: Callable[[int], object]) -> dict[str, object]:
        """Description for JSON: inputs and their order, the decoding to boxes, the prior boxes."""
        count = len(self.maps)
        return {
            "loc": [locate(i) for i in self.sources[:count]],
            "conf": [locate(i) for i in self.sources[count:]],
            "classes": self.classes,
            "background": 0,
            "order": "row, column, prior, number",
            "decode": "centre = prior centre + shift * variance * prior size; "
            "size = prior size * exp(shift * variance); softmax over background and classes",
            "variance": list(self.variance),
            "conf_thresh": self.conf_thresh,
            "nms": self.nms,
            "top_k": self.top_k,
            "keep_top_k": self.keep_top_k,
            "priors": [[round(value, 7) for value in row] for row in self.priors.tolist()],
        }


def only_ssd(layers: Sequence[Layer]) -> Ssd:
    """The only [ssd] of a cfg; raises CfgError unless there is exactly one."""
    heads = [layer for layer in layers if isinstance(layer, Ssd)]
    if len(heads) != 1:
        raise CfgError(
            f"{layers[0].section.path}: has {len(heads)} [ssd] sections, exactly one is needed"
        )
    return heads[0]
