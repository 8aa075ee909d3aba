"""The rule of [l2norm].

A channel that is cut is a constant, and constants count in the norm of every place. One constant
channel in their place keeps the norm if its square is the sum of theirs; behind the norm it carries
them all, as each of them is divided by the same number there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pruning.graph.rules.base import Demand, Rule, Tensors
from pruning.graph.rules.coupling import Coupling, Ids
from yolo.layers import Layer
from yolo.layers.convolutional import Convolutional
from yolo.layers.l2norm import L2Norm
from yolo.network import Network

PROPORTIONAL = ("linear", "relu", "leaky")  # activations: k·x gives k times as much (k > 0)


class EqualNorm(Demand):
    """The squares of the constant channels add up to those of all that is cut."""

    def scale(self, cut: Tensor, emitted: Tensor) -> float:
        lost, carried = (float(v.double().square().sum()) for v in (cut, emitted))
        return (lost / carried) ** 0.5 if carried else 1.0


class L2NormRule(Rule[L2Norm]):
    """A factor a channel; constants are meant as shares of a place's norm."""

    scales = True

    def __init__(self, rule_of: Callable[[Layer], Rule[Any]]) -> None:
        """`rule_of` finds the rules of other sections: they say how constants come out of these."""
        self.rule_of = rule_of

    def pin(self, network: Network, index: int, coupling: Coupling) -> None:
        """Pin what enters where no constant channel could keep a cut exact."""
        (ids,) = coupling.inputs[index]
        groups = coupling.find(ids)
        earlier = (layer for layer in network.layers[:index] if isinstance(layer, L2Norm))
        others = (coupling.find(coupling.inputs[norm.section.index][0]) for norm in earlier)
        reason = self._unfit(network, index, coupling, groups)
        if any(np.isin(groups, other).any() for other in others):
            reason = "feeds two [l2norm]"
        if reason:
            coupling.pin(ids, reason)

    def constraint(self, network: Network, index: int, inputs: Sequence[Ids]) -> Demand:
        (source,) = network.layers[index].sources
        return EqualNorm(source, inputs[0], frozenset(_behind(network, index)))

    def constant(self, layer: L2Norm, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return values[0] * tensors["factors"]

    def _unfit(self, network: Network, index: int, coupling: Coupling, groups: Ids) -> str | None:
        """Why a constant channel can't keep a cut of these groups exact; None where it can."""
        for user in _behind(network, index):
            layer = network.layers[user]
            if not (isinstance(layer, Convolutional) and layer.mixes):
                return f"feeds an [l2norm] in front of a [{layer.section.name}]"
        for i, layer in enumerate(network.layers):
            has_groups = np.isin(coupling.find(coupling.outputs[i]), groups).any()
            if has_groups and not self._scales(layer):
                name = f"[{layer.section.name}]"
                if layer.activation:
                    name += f" with activation={layer.activation.name}"
                return f"feeds an [l2norm] and belongs to a {name}"
        return None

    def _scales(self, layer: Layer) -> bool:
        proportional = layer.activation is None or layer.activation.name in PROPORTIONAL
        return self.rule_of(layer).scales and proportional


def _behind(network: Network, index: int) -> list[int]:
    """The sections that weigh an [l2norm]'s output, through [route]s that pass nothing else."""
    sections = []
    for user in network.consumers[index]:
        layer = network.layers[user]
        if layer.section.type == "route" and len(layer.sources) == 1:
            sections += _behind(network, user)
        else:
            sections.append(user)
    return sections
