"""Tensors to start training from: fresh ones, or those of another network that fit."""

from __future__ import annotations

import torch

from yolo.network import Network


def initialize(network: Network, seed: int = 0) -> None:
    """Give every tensor that a section hasn't got yet a value that training starts with.

    A section says what that is (Layer.fresh), and a head what becomes of it in what feeds the head.
    """
    random = torch.Generator().manual_seed(seed)
    for index, layer in enumerate(network.layers):
        stored = layer.stored()
        if any(tensor.is_meta for tensor in stored.values()):
            fresh = {n: layer.fresh(n, t, random) for n, t in stored.items() if t.is_meta}
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
