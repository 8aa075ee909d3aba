"""The sections of a network that learn from targets."""

from collections.abc import Sequence

from yolo.heads.common.base import Learner
from yolo.heads.common.loss import LossRule
from yolo.layers.base import Layer


def trained_heads(layers: Sequence[Layer]) -> dict[int, LossRule]:
    """The losses of the sections that have one, by section index.

    A [cost] after a [softmax] is a part of the [softmax]'s loss, as in Darknet. Raises CfgError for
    a section that can't be trained, and where no section has a loss.
    """
    rules: dict[int, LossRule] = {}
    learners = {i: layer for i, layer in enumerate(layers) if isinstance(layer, Learner)}
    costs = {layer.sources[0]: i for i, layer in learners.items() if not layer.is_head}
    for source, layer in enumerate(layers):
        cost = learners[costs[source]] if source in costs else None
        if layer.is_head:
            head = learners[source]
            rules[source] = head.rule_before(cost) if cost else head.rule
        elif cost:
            rules[costs[source]] = cost.rule
    if not rules:
        raise layers[-1].section.error("is last, and neither head nor [cost]: can't be trained")
    return rules


def learns_from(layer: Layer) -> int:
    """The section whose output the loss of a trained section gets."""
    return layer.learns_from if isinstance(layer, Learner) else layer.sources[0]
