"""Training of Bayesian sections: the divergence from their priors, and clipping."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yolo.layers.bayesian import bayesian_layers
from yolo.network import Network


@dataclass(frozen=True)
class Bound:
    """Weights of the two parts of the evidence lower bound: data loss and KL divergence.

    `kl` None is 1 / N for N training images, which makes the sum the bound itself, per image. Its
    weight grows linearly from 0 over the first `warmup` epochs.
    """

    data: float = 1.0
    kl: float | None = None
    warmup: float = 0.0


class Variational:
    """The KL divergence of a network's Bayesian sections: its gradient in every step, its value."""

    def __init__(self, network: Network, bound: Bound, images: int) -> None:
        self.layers = list(bayesian_layers(network.layers).values())
        self.parameters = [p for layer in self.layers for p in layer.parameters()]
        self.parameters = [p for p in self.parameters if p.requires_grad]
        self.weight = 1 / images if bound.kl is None else bound.kl
        self.warmup = bound.warmup

    def pull(self, epoch: float, scale: float) -> float:
        """Add the gradient of the divergence, times `scale`; returns its value.

        `epoch` counts from 0, with fractions. Processes exchange nothing, as all have the same
        parameters and so the same gradient.
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
        """True where a Bayesian section has batch normalisation."""
        return any(getattr(layer, "bn", None) is not None for layer in self.layers)

    def clip(self) -> None:
        """Limit variances to the sections' clip_var, after the optimiser's step."""
        for layer in self.layers:
            layer.clip()


@torch.no_grad()
def measure_statistics(network: Network, batches: Iterable[Tensor]) -> None:
    """Measure BN's statistics again, on images (N, C, H, W) in [0, 1], with the posterior means.

    Statistics from training include the noise of the weights. With their larger variances the
    outputs of the means would get smaller from section to section.
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
