"""What computes a network for detection and evaluation: torch, or a class for each engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from yolo.datasets.images import Placement
from yolo.detections import Candidates, Detections, candidates, without_overlaps
from yolo.network import Network
from yolo.nms import Nms


class Runner:
    """Computes a network's outputs for batches of images; `network` says what they mean.

    `names` are those of the classes where the model has them.
    """

    names: tuple[str, ...] = ()

    def __init__(self, network: Network) -> None:
        self.network = network

    def outputs(self, x: Tensor) -> Mapping[int, Tensor]:
        """(N, C, H, W) in [0, 1] → the outputs of the heads, as Network.forward gives them."""
        raise NotImplementedError

    def detect(
        self,
        x: Tensor,
        thresh: float,
        nms: Nms | None,
        placements: Sequence[Placement] | None = None,
    ) -> list[Detections]:
        """The objects of every image of a batch (N, C, H, W), see detections.detect."""
        with torch.inference_mode():
            return without_overlaps(self.candidates(x, thresh), nms, placements)

    def candidates(self, x: Tensor, thresh: float) -> list[Candidates]:
        """The boxes of every image before NMS, see detections.candidates."""
        with torch.inference_mode():
            return candidates(self.network, self.outputs(x), thresh)

    def scores(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → the scores of the classes (N, classes)"""
        with torch.inference_mode():
            return self.outputs(x)[self.network.heads[-1]].flatten(1)


class TorchRunner(Runner):
    """The network itself, its BN folded, on the device where its tensors are."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.fused = network.fused()
        self.device = next(iter(network.parameters()), torch.empty(0)).device

    def outputs(self, x: Tensor) -> dict[int, Tensor]:
        return self.fused(x.to(self.device))


def of_inputs(network: Network, arrays: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """The outputs of the heads from their inputs, by section."""
    layers = network.layers
    with torch.inference_mode():
        return {
            i: layers[i](*(arrays[s] for s in layers[i].sources))
            if layers[i].is_head
            else arrays[i]
            for i in network.heads
        }
