"""[ssd]"""

from __future__ import annotations

import functools
from collections.abc import Iterable

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


def only_ssd(layers: Iterable[Layer], path: str) -> Ssd:
    """The only [ssd] of a cfg; raises CfgError where there is none, or another."""
    heads = [layer for layer in layers if isinstance(layer, Ssd)]
    if len(heads) != 1:
        raise CfgError(f"{path}: {len(heads)} sections [ssd], one is needed here")
    return heads[0]
