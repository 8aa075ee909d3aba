"""What Bayesian sections add to the training: the divergence from their priors, and clipping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yolo.layers.bayesian import bayesian_layers
from yolo.network import Network


@dataclass(frozen=True)
class Bound:
    """What the evidence lower bound weighs: the data's loss, and the KL divergence.

    `kl` None is 1 / N for N training images, which makes the sum the bound itself, per image. The
    divergence comes in over the first `warmup` epochs, from 0 in equal steps.
    """

    data: float = 1.0
    kl: float | None = None
    warmup: float = 0.0


class Variational:
    """The divergence of a network's Bayesian sections: its gradient in every step, its value."""

    def __init__(self, network: Network, bound: Bound, images: int) -> None:
        self.layers = list(bayesian_layers(network.layers).values())
        self.parameters = [p for layer in self.layers for p in layer.parameters()]
        self.parameters = [p for p in self.parameters if p.requires_grad]
        self.weight = 1 / images if bound.kl is None else bound.kl
        self.warmup = bound.warmup

    def pull(self, epoch: float, scale: float) -> float:
        """Add the gradient of the divergence, times `scale`; returns its value.

        `epoch` counts from 0, with fractions. Nothing is exchanged between processes: all of
        them have the same parameters, so the same gradient.
        """
        total = torch.stack([layer.kl() for layer in self.layers]).sum()
        share = min(epoch / self.warmup, 1.0) if self.warmup else 1.0
        gradients = torch.autograd.grad(
            total * (self.weight * share * scale), self.parameters, allow_unused=True
        )
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            if gradient is None:  # BN's
                continue
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad += gradient
        return total.item()

    @property
    def is_normalized(self) -> bool:
        """Whether batch normalisation stands behind a Bayesian section."""
        return any(getattr(layer, "bn", None) is not None for layer in self.layers)

    def clip(self) -> None:
        """Keep variances below what the sections allow, after the optimiser's step."""
        for layer in self.layers:
            layer.clip()


@torch.no_grad()
def measure_statistics(network: Network, batches: Iterable[Tensor]) -> None:
    """Measure BN's statistics anew, on images (N, C, H, W) in [0, 1], with the posterior means.

    Training sees the noise of the weights, too: its variances are larger, so that with them the
    means' outputs would fade from section to section.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
    for count, images in enumerate(batches, 1):
        for norm in norms:
            norm.momentum = 1 / count  # the mean of all
        network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
