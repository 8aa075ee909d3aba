"""Statistics of a network on images: covariances of inputs, and the effect on the heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pruning.calibration.images import split
from pruning.calibration.samples import sample_positions
from pruning.graph.rules import has_filters
from pruning.measure.head_error import batches
from pruning.measure.progress import Progress
from yolo.layers import Layer
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.network import Network

PROJECTIONS = 2  # random directions a batch in which the heads are looked at
LEAST_VARIANCE = 1e-6  # of a head's channel; one that never changes counts no more than that


@dataclass(frozen=True)
class Statistics:
    """Means over positions and images, in float64, by section.

    Of sections that mix channels: `covariance` (G, C, C) of the inputs of each of its groups,
    `effect` (n,) of the outputs before BN: by how much the heads change, squared and in shares of
    their own variances, where an output is off by a mean square of 1. Of sections with filters:
    `energy` (n,), the variance of the outputs, and `taylor` (n,), the squared change of the heads,
    to first order, without the output.
    """

    covariance: dict[int, Tensor]
    effect: dict[int, Tensor]
    energy: dict[int, Tensor]
    taylor: dict[int, Tensor]


def statistics_of(network: Network, images: Tensor, progress: Progress) -> Statistics:
    """Statistics of calibration images (N, C, H, W), without those held out (images.split)."""
    train, _ = split(images)
    progress(f"looking at {len(train)} images")
    return gather(network, batches(train))


def gather(network: Network, parts: Sequence[Tensor], seed: int = 0) -> Statistics:
    """Run images (N, C, H, W) in [0, 1] through a network; nothing of it changes."""
    random = torch.Generator().manual_seed(seed)
    scale = _scales(network, parts)
    sums = _Sums()
    for batch in parts:
        run = _Run(network, batch)
        sums.add_moments(run, random)
        for _ in range(PROJECTIONS):
            sums.add_effects(run, run.gradients(scale, random))
    return sums.statistics()


@torch.no_grad()
def _scales(network: Network, parts: Sequence[Tensor]) -> dict[int, Tensor]:
    """One over the deviation of every channel that enters a head: (C,)"""
    sums: dict[int, tuple[int, Tensor, Tensor]] = {}
    for batch in parts:
        for i, head in network(batch, collect=network.head_inputs).items():
            _add_moments(sums, i, head)
    return {i: _variance(*moments).clamp(min=LEAST_VARIANCE).rsqrt() for i, moments in sums.items()}


def _add_moments(sums: dict[int, tuple[int, Tensor, Tensor]], i: int, x: Tensor) -> None:
    """Count, sum and sum of squares of every channel of (N, C, …), in float64."""
    flat = x.double().transpose(0, 1).flatten(1)
    count, first, second = sums.get(i, (0, torch.zeros(()), torch.zeros(())))
    sums[i] = count + flat.shape[1], first + flat.sum(1), second + flat.square().sum(1)


def _variance(count: int, first: Tensor, second: Tensor) -> Tensor:
    return (second / count - (first / count).square()).clamp(min=0)


class _Run:
    """A forward pass that keeps what a section gives before BN and behind its activation."""

    def __init__(self, network: Network, images: Tensor) -> None:
        self.network, self.images = network, images
        self.mixed: dict[int, tuple[Tensor, Tensor]] = {}  # input, output before BN
        self.activations: dict[int, Tensor] = {}  # behind the activation
        sections = network.head_inputs
        with torch.enable_grad():
            self.heads = {i: y for i, y in network.walk(images, self._section) if i in sections}

    def _section(self, layer: Layer, xs: list[Tensor]) -> Tensor | None:
        i = layer.section.index
        if layer.is_head and not self.network.consumers[i]:
            return None
        if not isinstance(layer, Convolutional | Connected):
            return layer(*xs)
        flat = isinstance(layer, Connected)
        y = layer.weigh(xs[0].flatten(1) if flat else xs[0])
        if not y.requires_grad:
            y.requires_grad_()
        if layer.mixes:
            self.mixed[i] = xs[0].detach(), y
        # never in place: y is needed as it is
        out = layer.activation(layer.normalize(y))
        out = out[:, :, None, None] if flat else out
        if has_filters(layer):
            self.activations[i] = out
        return out

    def gradients(
        self, scale: dict[int, Tensor], random: torch.Generator
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Of a random mix of the heads, by what is mixed and by what is made."""
        total = torch.zeros(())
        for i, head in self.heads.items():
            sign = torch.randn(head.shape, generator=random).to(head)
            shape = (-1, *[1] * (head.dim() - 2))
            per_image = head[0].numel()
            total = total + (head * sign * scale[i].reshape(shape)).sum() / per_image**0.5
        tensors = [y for _, y in self.mixed.values()] + list(self.activations.values())
        gradients = torch.autograd.grad(total, tensors, retain_graph=True, allow_unused=True)
        filled = [
            torch.zeros_like(w) if g is None else g for w, g in zip(tensors, gradients, strict=True)
        ]
        values = iter(filled)
        return {i: next(values) for i in self.mixed}, {i: next(values) for i in self.activations}


class _Sums:
    """Sums that statistics are made of."""

    def __init__(self) -> None:
        self.images = 0
        self.counts: dict[int, int] = {}
        self.first: dict[int, Tensor] = {}
        self.second: dict[int, Tensor] = {}
        self.activations: dict[int, tuple[int, Tensor, Tensor]] = {}
        self.effect: dict[int, Tensor] = {}
        self.taylor: dict[int, Tensor] = {}

    @torch.no_grad()
    def add_moments(self, run: _Run, random: torch.Generator) -> None:
        """Moments of inputs and outputs."""
        self.images += len(run.images)
        for i, (x, _) in run.mixed.items():
            samples = sample_positions(x, run.network.layers[i].groups, random)
            _add(self.counts, i, samples.shape[1])
            _add(self.first, i, samples.double().sum(1))
            _add(self.second, i, (samples.mT @ samples).double())
        for i, y in run.activations.items():
            _add_moments(self.activations, i, y)

    @torch.no_grad()
    def add_effects(
        self, run: _Run, gradients: tuple[dict[int, Tensor], dict[int, Tensor]]
    ) -> None:
        """Add the effect of outputs on the heads."""
        mixed, activations = gradients
        for i, gradient in mixed.items():
            _add(self.effect, i, gradient.double().square().transpose(0, 1).flatten(1).sum(1))
        for i, gradient in activations.items():
            change = (run.activations[i] * gradient).double().flatten(2).sum(2)
            _add(self.taylor, i, change.square().sum(0))

    def statistics(self) -> Statistics:
        """The means over all images."""
        runs = max(self.images * PROJECTIONS, 1)
        covariance = {}
        for i, second in self.second.items():
            count = self.counts[i]
            mean = self.first[i] / count
            covariance[i] = second / count - mean[:, :, None] * mean[:, None]
        energy = {i: _variance(*moments) for i, moments in self.activations.items()}
        effect = {i: total / runs for i, total in self.effect.items()}
        taylor = {i: total / runs for i, total in self.taylor.items()}
        return Statistics(covariance, effect, energy, taylor)


def _add(sums: dict[int, Any], i: int, value: Any) -> None:
    sums[i] = sums[i] + value if i in sums else value
