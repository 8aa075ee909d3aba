"""Constants carried on: the value of every channel whose group is silenced.

A channel whose γ is 0 still outputs act(β); the rules say what becomes of that in other sections.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.graph.rules import Producer, Tensors, rule_of
from yolo.layers import IMAGE
from yolo.network import Network, State


@dataclass(frozen=True)
class Constants:
    """Per section, the outputs of channels whose groups are silenced, or constant channels."""

    silenced: dict[int, Tensor]
    emitted: dict[int, Tensor]


def constants(network: Network, state: State) -> Constants:
    """Carry the constants through all sections, in the dtype of the state."""
    return Constants(_propagate(network, state, False), _propagate(network, state, True))


def _propagate(network: Network, state: State, emitted: bool) -> dict[int, Tensor]:
    dtype = next((t.dtype for tensors in state.values() for t in tensors.values()), torch.float32)
    values = {IMAGE: torch.zeros(network.image.channels, dtype=dtype)}
    for i, layer in enumerate(network.layers):
        rule, tensors = rule_of(layer), tensors_of(network, state, i)
        if emitted and isinstance(rule, Producer):
            shift = torch.full_like(tensors["biases"], rule.emitted(layer))
            tensors = {**tensors, "biases": shift}
        values[i] = rule.constant(layer, tensors, [values[source] for source in layer.sources])
    return values


def tensors_of(network: Network, state: State, index: int) -> Tensors:
    """The tensors that a section computes with, be they its own or shared ones."""
    owner = network.layers[index].owner
    return state.get(owner.section.index if owner else index, {})
