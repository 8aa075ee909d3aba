"""Which sections of a network learn from targets."""

from collections.abc import Sequence

from yolo.heads.base import Head
from yolo.heads.classifier_loss import CostLoss, SoftmaxLoss
from yolo.heads.loss import LossRule
from yolo.heads.softmax import Softmax
from yolo.layers.base import Layer


def trained_heads(layers: Sequence[Layer]) -> dict[int, LossRule]:
    """Section index → how it learns, from what enters it or, with several sources, its output.

    A [cost] behind a [softmax] is a part of the [softmax]'s loss, as in Darknet. Raises CfgError
    for sections that can't be trained, and where there is none to be trained.
    """
    rules: dict[int, LossRule] = {}
    costs = {layer.sources[0]: i for i, layer in enumerate(layers) if layer.section.type == "cost"}
    for source, layer in enumerate(layers):
        cost = CostLoss(layers[costs[source]].section) if source in costs else None
        if isinstance(layer, Softmax):
            rules[source] = SoftmaxLoss(layer, cost)
        elif isinstance(layer, Head) and cost is not None:
            raise cost.section.error(f"behind [{layer.section.name}] can't be trained with")
        elif isinstance(layer, Head):
            rules[source] = layer.rule
        elif cost is not None:
            rules[costs[source]] = cost
    if not rules:
        raise layers[-1].section.error("no head and no [cost]: nothing that can be trained")
    return rules


def learns_from(layer: Layer) -> int:
    """The section whose output the loss of a trained section sees."""
    return layer.learns_from if isinstance(layer, Head) else layer.sources[0]
