"""Outputs of sections for many images, held as long as others need them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor

from yolo.layers import IMAGE
from yolo.network import Held, Network

MEMORY = 2**31  # bytes of outputs that are held at a time; more of them lie in files


class Outputs:
    """Section by section, for all batches (N, C, H, W) of images in [0, 1]."""

    def __init__(self, network: Network, batches: Sequence[Tensor], memory: int = MEMORY) -> None:
        self.network = network
        self._filed = _most(network) * sum(map(len, batches)) > memory
        self._held = Held(network.consumers, [network.prepared(batch) for batch in batches])

    def inputs(self, section: int) -> list[Tensor]:
        """The inputs of a section with one source, batch by batch."""
        (batches,) = self._held.inputs(self.network.layers[section])
        return batches

    def inputs_are(self, other: Outputs, section: int, theirs: int) -> bool:
        """True where a section of another network sees the same."""
        mine, its = self.network.layers[section], other.network.layers[theirs]
        if len(mine.sources) != len(its.sources):
            return False
        tensors = zip(self._held.inputs(mine), other._held.inputs(its), strict=True)
        sources = zip(mine.sources, its.sources, strict=True)
        return all(
            a == b == IMAGE or x is y for (a, b), (x, y) in zip(sources, tensors, strict=True)
        )

    def compute(self, section: int) -> None:
        """Run a section; what nothing else needs is freed."""
        layer = self.network.layers[section]
        batches = zip(*self._held.inputs(layer), strict=True)
        self._held.keep(layer, [self._stored(layer(*xs)) for xs in batches])

    def share(self, other: Outputs, section: int, theirs: int) -> None:
        """Take over what a section of another network gives."""
        self._held.keep(self.network.layers[section], other._held.get(theirs))

    def _stored(self, tensor: Tensor) -> Tensor:
        if not self._filed:
            return tensor
        with tempfile.NamedTemporaryFile() as file:  # its name goes, what is mapped stays
            filed = torch.from_file(file.name, True, tensor.numel(), dtype=tensor.dtype)
        return filed.copy_(tensor.reshape(-1)).reshape(tensor.shape)


def _most(network: Network) -> int:
    """The most bytes that outputs which are still needed take at a time, for one image."""
    held, most = Held(network.consumers, 0), 0
    for layer in network.layers:
        most = max(most, sum(held.values()) + layer.out_shape.elements)
        held.keep(layer, layer.out_shape.elements)
    return 4 * most
