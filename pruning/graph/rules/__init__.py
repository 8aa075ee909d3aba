"""One rule a section type: how it ties channels, what a constant becomes in it, how it is cut.

The rule of a section type that isn't listed here pins its input.
"""

from typing import Any

from pruning.graph.rules.base import Demand, Edits, Kept, Pinned, Rule, Tensors
from pruning.graph.rules.filters import (
    ConnectedRule,
    ConvolutionalRule,
    LocalRule,
    Producer,
    Weighted,
    taps,
)
from pruning.graph.rules.l2norm import L2NormRule
from pruning.graph.rules.passing import (
    ActivationRule,
    BatchNormRule,
    IdentityRule,
    ImplicitRule,
    MaxPoolRule,
    ProductRule,
    Reorg3dRule,
    RouteRule,
    ShortcutRule,
    UpsampleRule,
)
from yolo.layers import Layer

HEAD = Pinned("feeds a [{}] head")
UNKNOWN = Pinned("feeds a [{}], which has no rule here")


def rule_of(layer: Layer) -> Rule[Any]:
    """The rule for a section."""
    return HEAD if layer.is_head else RULES.get(layer.section.type, UNKNOWN)


PASSING, IDENTITY = Rule[Layer](), IdentityRule()
RULES: dict[str, Rule[Any]] = {
    "convolutional": ConvolutionalRule(),
    "connected": ConnectedRule(),
    # they tie channels as the plain ones do; a cut is made in the plain network of their means
    "bayesian_convolutional": ConvolutionalRule(),
    "bayesian_connected": ConnectedRule(),
    "local": LocalRule(),
    "batchnorm": BatchNormRule(),
    "activation": ActivationRule(),
    "l2norm": L2NormRule(rule_of),
    "dropout": IDENTITY,
    "cost": IDENTITY,
    "maxpool": MaxPoolRule(),
    "local_avgpool": PASSING,
    "avgpool": PASSING,
    "upsample": UpsampleRule(),
    "route": RouteRule(),
    "shortcut": ShortcutRule(),
    "scale_channels": ProductRule(),
    "sam": ProductRule(),
    "implicit": ImplicitRule(),
    "reorg3d": Reorg3dRule(),
    "reorg": Pinned("feeds a [{}], which mixes channels and places"),
    "normalization": Pinned("feeds a [{}], which mixes neighbouring channels"),
    "crop": Pinned("feeds a [{}]"),
}


def has_filters(layer: Layer) -> bool:
    """True for a section that makes channels which can be cut."""
    return isinstance(rule_of(layer), Producer)


__all__ = [
    "RULES",
    "Demand",
    "Edits",
    "Kept",
    "Producer",
    "Rule",
    "Tensors",
    "Weighted",
    "has_filters",
    "rule_of",
    "taps",
]
