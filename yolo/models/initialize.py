"""Tensors to start training from: fresh ones, or those of another network that fit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from yolo.layers import Layer
from yolo.network import Network

ONES = ("scales", "variance")
POSTERIOR_SPREAD = 0.01  # of a Bayesian section's scales and log-variances


def initialize(network: Network, seed: int = 0) -> None:
    """Give every tensor that a section hasn't got yet a value that training starts with.

    Weights are He-normal over the fan-in (He et al., Delving Deep into Rectifiers, ICCV 2015),
    scales and variances 1, the rest 0; a head says what is else to be of what feeds it.
    """
    random = torch.Generator().manual_seed(seed)
    for index, layer in enumerate(network.layers):
        stored = layer.stored()
        if any(tensor.is_meta for tensor in stored.values()):
            fresh = {n: _fresh(layer, n, t, random) for n, t in stored.items() if t.is_meta}
            for user in network.consumers[index]:
                fresh = network.layers[user].start_source(fresh)
            layer.store(stored | fresh)
    for layer in network.layers:
        layer.tie()


def transfer(network: Network, other: Network) -> list[int]:
    """Take over the tensors of the sections that have the same type and shapes in `other`.

    Sections are compared in order, so a network with other classes keeps all but what feeds its
    heads. Returns the sections that found nothing.
    """
    state = other.state()
    missing = []
    for index, tensors in network.state().items():
        given = state.get(index, {})
        same = {n: t.shape for n, t in given.items()} == {n: t.shape for n, t in tensors.items()}
        if same and network.layers[index].section.type == other.layers[index].section.type:
            network.layers[index].store({name: tensor.clone() for name, tensor in given.items()})
        else:
            missing.append(index)
    for layer in network.layers:
        layer.tie()
    return missing


def _fresh(layer: Layer, name: str, like: Tensor, random: torch.Generator) -> Tensor:
    centre = layer.first(name)
    if centre is not None:
        spread = POSTERIOR_SPREAD if layer.plain_type else 0.0
        return centre + spread * torch.randn(like.shape, generator=random)
    if name in ONES:
        return torch.ones(like.shape)
    if name != "weights":
        return torch.zeros(like.shape)
    if layer.section.type == "shortcut":
        return torch.ones(like.shape)
    if layer.section.type == "implicit":  # representation_layer.c
        mean = layer.section.number("mean_init", 0.0)
        spread = layer.section.number("std_init", 0.2)
        return mean + spread * (2 * torch.rand(like.shape, generator=random) - 1)
    fan_in = like.shape[2] if layer.section.type == "local" else like.shape[1:].numel()
    return torch.randn(like.shape, generator=random) * math.sqrt(2 / fan_in)
