"""Torch-Pruning on our networks: its own rules, its own cut, run by its own modules."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import torch

from yolo.errors import DarknetError
from yolo.network import Network

if TYPE_CHECKING:
    from torch import Tensor

MISSING = ["Torch-Pruning", "", "", "", "not installed: pip install -e '.[bench]'"]
RULES = {
    "magnitude": ("GroupMagnitudeImportance", {"p": 2}),
    "BN scale": ("BNScaleImportance", {}),
}
STEPS = 400  # of its pruner, each as many channels; it scores those that are left anew


def installed() -> bool:
    """True where there is a Torch-Pruning to compare with."""
    return importlib.util.find_spec("torch_pruning") is not None


def reason(error: Exception) -> str:
    """One line: what it raised."""
    kind = "" if isinstance(error, DarknetError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


class Peer:
    """A copy of a plain network in the hands of Torch-Pruning, ranked globally by one of RULES.

    Its `steps` take a `share` of the channels together, and each as many. Raises whatever
    Torch-Pruning raises.
    """

    def __init__(self, network: Network, rule: str, share: float = 1.0, steps: int = STEPS) -> None:
        import torch_pruning

        self.network = _Cut.with_state(network.cfg, network.state())
        self._original = self._weights()
        shape = network.image
        self._images = torch.zeros(1, shape.channels, shape.height, shape.width)
        name, options = RULES[rule]
        self._pruner = torch_pruning.pruner.BasePruner(
            self.network,
            self._images,
            getattr(torch_pruning.importance, name)(**options),
            global_pruning=True,
            pruning_ratio=share,
            iterative_steps=steps,
            ignored_layers=_before_heads(self.network),
            forward_fn=_head_inputs,
        )

    def build_graph(self) -> object:
        """Its dependency graph once more, and nothing else that its pruner is made of."""
        import torch_pruning

        graph = torch_pruning.DependencyGraph()
        return graph.build_dependency(self.network, self._images, _head_inputs)

    @property
    def macs(self) -> float:
        """The share of the MACs that is left, by the shapes of the weights."""
        remaining = self._weights()
        layers = enumerate(self.network.layers)
        macs = sum(
            layer.macs() * remaining[i] / self._original[i] for i, layer in layers if i in remaining
        )
        return macs / self.network.macs()

    def step(self) -> None:
        """One of its steps."""
        self._pruner.step()

    def cut(self, macs: float) -> int:
        """Step on to this share of the MACs; the number of steps since the beginning.

        Raises DarknetError where Torch-Pruning doesn't get there.
        """
        while self.macs > macs:
            if self._pruner.current_step == self._pruner.iterative_steps:
                raise DarknetError(f"stops at {self.macs:.4f} of the MACs")
            self.step()
        return self._pruner.current_step

    def _weights(self) -> dict[int, int]:
        """How many weights the sections have."""
        state = self.network.state()
        return {
            i: tensors["weights"].numel() for i, tensors in state.items() if "weights" in tensors
        }


class _Cut(Network):
    """Modules whose widths are no longer those of the cfg."""

    def fused(self) -> Network:
        return self


def _head_inputs(network: Network, images: Tensor) -> list[Tensor]:
    """Outputs that Torch-Pruning traces: decoding boxes is beyond it, and no part of the cut."""
    return list(network(images, network.head_inputs).values())


def _before_heads(network: Network) -> list[torch.nn.Module]:
    """The convolutions and linear layers whose outputs enter a head."""
    import numpy as np

    from pruning.graph.channels import ChannelGraph

    outputs = ChannelGraph(network).outputs
    entering = np.concatenate([outputs[i] for i in network.head_inputs])
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    return [
        module
        for i, layer in enumerate(network.layers)
        if np.isin(outputs[i], entering).any()
        for module in layer.children()
        if isinstance(module, kinds)
    ]
