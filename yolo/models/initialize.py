"""Initial tensors for training: fresh ones, or fitting ones of another network."""

from __future__ import annotations

import torch

from yolo.network import Network


def initialize(network: Network, seed: int = 0) -> None:
    """Initialise every tensor that has no value yet.

    The values come from the section (Layer.fresh); a head adapts those of the section before it.
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
    """Copy the tensors of the sections that have the same type and shapes in `other`.

    Sections are compared by index, so a network with other classes gets all but the sections before
    its heads. Returns the sections that got nothing.
    """
    state = other.state()
    missing = []
    for index, tensors in network.state().items():
        source = state.get(index, {})
        same = {n: t.shape for n, t in source.items()} == {n: t.shape for n, t in tensors.items()}
        if same and network.layers[index].section.type == other.layers[index].section.type:
            network.layers[index].store({name: tensor.clone() for name, tensor in source.items()})
        else:
            missing.append(index)
    for layer in network.layers:
        layer.tie()
    return missing
