"""The rule of [l2norm].

A channel that is cut is a constant, and constants count in the norm of every place. One constant
channel in their place keeps the norm if its square is the sum of theirs; behind the norm it carries
them all, as each of them is divided by the same number there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pruning.graph.rules.base import Demand, Rule, Tensors
from pruning.graph.rules.coupling import Coupling, Ids
from yolo.layers import Layer
from yolo.layers.convolutional import Convolutional
from yolo.layers.l2norm import L2Norm
from yolo.network import Network

# sections out of which a constant k times as large (k > 0) comes k times as large, if their
# activation is one of those that do so
SCALING = (
    *("convolutional", "bayesian_convolutional", "shortcut", "route", "maxpool", "upsample"),
    *("activation", "dropout", "l2norm"),
)
PROPORTIONAL = ("linear", "relu", "leaky")  # where numbers aren't negative


class EqualNorm(Demand):
    """The squares of the constant channels add up to those of all that is cut."""

    def scale(self, cut: Tensor, emitted: Tensor) -> float:
        wanted, given = (float(v.double().square().sum()) for v in (cut, emitted))
        return (wanted / given) ** 0.5 if given else 1.0


class L2NormRule(Rule[L2Norm]):
    """A factor a channel; constants are meant as shares of a place's norm."""

    def pin(self, network: Network, index: int, coupling: Coupling) -> None:
        """Pin what enters where no constant channel could keep a cut exact."""
        (ids,) = coupling.inputs[index]
        groups = coupling.find(ids)
        earlier = (layer for layer in network.layers[:index] if isinstance(layer, L2Norm))
        others = (coupling.find(coupling.inputs[norm.section.index][0]) for norm in earlier)
        reason = _unfit(network, index, coupling, groups)
        if any(np.isin(groups, other).any() for other in others):
            reason = "feeds two [l2norm]"
        if reason:
            coupling.pin(ids, reason)

    def constraint(self, network: Network, index: int, inputs: Sequence[Ids]) -> Demand:
        (source,) = network.layers[index].sources
        return EqualNorm(source, inputs[0], frozenset(_behind(network, index)))

    def constant(self, layer: L2Norm, tensors: Tensors, values: Sequence[Tensor]) -> Tensor:
        return values[0] * tensors["factors"]


def _behind(network: Network, index: int) -> list[int]:
    """The sections that weigh an [l2norm]'s output, through [route]s that pass nothing else."""
    found = []
    for user in network.consumers[index]:
        layer = network.layers[user]
        if layer.section.type == "route" and len(layer.sources) == 1:
            found += _behind(network, user)
        else:
            found.append(user)
    return found


def _unfit(network: Network, index: int, coupling: Coupling, groups: Ids) -> str | None:
    for user in _behind(network, index):
        layer = network.layers[user]
        if not (isinstance(layer, Convolutional) and layer.mixes):
            return f"feeds an [l2norm] in front of a [{layer.section.name}]"
    for i, layer in enumerate(network.layers):
        has_groups = np.isin(coupling.find(coupling.outputs[i]), groups).any()
        if has_groups and not _scales(layer):
            what = f"[{layer.section.name}]"
            if layer.activation:
                what += f" with activation={layer.activation.name}"
            return f"feeds an [l2norm] and belongs to a {what}"
    return None


def _scales(layer: Layer) -> bool:
    proportional = layer.activation is None or layer.activation.name in PROPORTIONAL
    return layer.section.type in SCALING and proportional
