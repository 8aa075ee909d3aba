"""Moving average of a network's tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from yolo.network import Network


class Ema:
    """Averages parameters and BN statistics over the steps; `network` is evaluated and saved.

    The decay grows with the steps, min(decay, (1 + t) / (10 + t)), so that early values are
    forgotten (tensorflow's ExponentialMovingAverage).
    """

    def __init__(self, network: Network, decay: float) -> None:
        """`decay` in [0, 1); 0 follows the network exactly."""
        self.decay = decay
        self.steps = 0
        self.network = Network.with_state(
            network.cfg,
            {i: {n: t.clone() for n, t in ts.items()} for i, ts in network.state().items()},
        )

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """Add the tensors after one more step to the average."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.decay else 0.0
        mine, theirs = self.network.state(), network.state()
        torch._foreach_lerp_(_flat(mine), _flat(theirs), 1 - decay)
        for index, tensors in theirs.items():
            if "scales" in tensors:  # an average would never quite reach a γ that is 0
                mine[index]["scales"].mul_(tensors["scales"] != 0)


def _flat(state: Mapping[int, Mapping[str, Tensor]]) -> list[Tensor]:
    return [tensor for tensors in state.values() for tensor in tensors.values()]
