"""What the sections of a network give for many images: as long as others need it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor

from yolo.layers import IMAGE
from yolo.network import Network

MEMORY = 2**31  # bytes of outputs that are held at a time; more of them lie in files


class Outputs:
    """Section by section, for all batches (N, C, H, W) of images in [0, 1]."""

    def __init__(self, network: Network, batches: Sequence[Tensor], memory: int = MEMORY) -> None:
        self.network = network
        self._uses = {i: len(users) for i, users in network.consumers.items()}
        self._filed = _most(network) * sum(map(len, batches)) > memory
        self._found = {IMAGE: [network.prepared(batch) for batch in batches]}

    def inputs(self, section: int) -> list[Tensor]:
        """What enters a section with one source, batch by batch."""
        (source,) = self.network.layers[section].sources
        return self._found[source]

    def inputs_are(self, other: Outputs, section: int, theirs: int) -> bool:
        """Whether a section of another network sees the same."""
        sources = self.network.layers[section].sources, other.network.layers[theirs].sources
        pairs = zip(*sources, strict=False)
        return len(sources[0]) == len(sources[1]) and all(
            a == b == IMAGE or self._found[a] is other._found[b] for a, b in pairs
        )

    def compute(self, section: int) -> None:
        """Run a section; what nothing else needs is freed."""
        layer = self.network.layers[section]
        batches = zip(*(self._found[source] for source in layer.sources), strict=True)
        self._keep(section, [self._held(layer(*xs)) for xs in batches])

    def share(self, other: Outputs, section: int, theirs: int) -> None:
        """Take over what a section of another network gives."""
        self._keep(section, other._found[theirs])

    def _held(self, tensor: Tensor) -> Tensor:
        if not self._filed:
            return tensor
        with tempfile.NamedTemporaryFile() as file:  # its name goes, what is mapped stays
            filed = torch.from_file(file.name, True, tensor.numel(), dtype=tensor.dtype)
        return filed.copy_(tensor.reshape(-1)).reshape(tensor.shape)

    def _keep(self, section: int, outputs: list[Tensor]) -> None:
        self._found[section] = outputs
        for source in self.network.layers[section].sources:
            self._uses[source] -= 1
            if not self._uses[source] and source != IMAGE:
                self._found[source] = []


def _most(network: Network) -> int:
    """The most bytes that outputs which are still needed take at a time, for one image."""
    uses = {i: len(users) for i, users in network.consumers.items()}
    held = most = 0
    for layer in network.layers:
        held += layer.out_shape.elements
        most = max(most, held)
        for source in layer.sources:
            uses[source] -= 1
            if not uses[source] and source != IMAGE:
                held -= network.layers[source].out_shape.elements
    return 4 * most
