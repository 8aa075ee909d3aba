"""What an [l2norm] asks of a cut.

A channel that is cut is a constant, and constants count in the norm of every place. One constant
channel in their place keeps the norm if its square is the sum of theirs; behind the norm it carries
them all, as each of them is divided by the same number there.
"""

from __future__ import annotations

import numpy as np

from pruning.graph.coupling import Coupling
from pruning.graph.rules import depthwise
from yolo.layers import Layer
from yolo.layers.convolutional import Convolutional
from yolo.layers.l2norm import L2Norm
from yolo.network import Network

# sections out of which a constant k times as large (k > 0) comes k times as large, if their
# activation is one of those that do so
PASSING = (
    *("convolutional", "bayesian_convolutional", "shortcut", "route", "maxpool", "upsample"),
    *("activation", "dropout", "l2norm"),
)
PROPORTIONAL = ("linear", "relu", "leaky")  # where numbers aren't negative


def norms(network: Network) -> list[int]:
    """The [l2norm] sections."""
    return [i for i, layer in enumerate(network.layers) if isinstance(layer, L2Norm)]


def behind(network: Network, index: int) -> list[int]:
    """The sections that weigh an [l2norm]'s output, through [route]s that pass nothing else."""
    found = []
    for user in network.consumers[index]:
        layer = network.layers[user]
        if layer.section.type == "route" and len(layer.sources) == 1:
            found += behind(network, user)
        else:
            found.append(user)
    return found


def pin_unfit(network: Network, coupling: Coupling) -> None:
    """Pin what enters an [l2norm] where no constant channel could keep a cut exact."""
    seen: list[np.ndarray] = []
    for index in norms(network):
        (ids,) = coupling.inputs[index]
        groups = coupling.find(ids)
        reason = _unfit(network, index, coupling, groups)
        if any(np.isin(groups, others).any() for others in seen):
            reason = "feeds two [l2norm]"
        seen.append(groups)
        if reason:
            coupling.pin(ids, reason)


def _unfit(network: Network, index: int, coupling: Coupling, groups: np.ndarray) -> str | None:
    for user in behind(network, index):
        layer = network.layers[user]
        if not isinstance(layer, Convolutional) or depthwise(layer):
            return f"feeds an [l2norm] in front of a [{layer.section.name}]"
    for i, layer in enumerate(network.layers):
        has_groups = np.isin(coupling.find(coupling.outputs[i]), groups).any()
        if has_groups and not _passes(layer):
            name = getattr(getattr(layer, "activation", None), "name", "")
            what = f"[{layer.section.name}]" + (f" with activation={name}" if name else "")
            return f"feeds an [l2norm] and belongs to a {what}"
    return None


def _passes(layer: Layer) -> bool:
    activation = getattr(layer, "activation", None)
    proportional = activation is None or activation.name in PROPORTIONAL
    return layer.section.type in PASSING and proportional
