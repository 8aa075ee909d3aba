"""Weights on 8-bit grids: rounded so that a section's outputs change the least.

Each section sees what the sections before it, rounded already, give; the aim are the outputs of
the original, with the squared error that AdaRound (Nagel et al., ICML 2020) has as its objective.
The weights of an output are rounded one after another, and what rounding one leaves is made up for
by those that are still free, as GPTQ (Frantar et al., ICLR 2023) does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pruning.calibration.outputs import Outputs
from pruning.calibration.reconstruct import Moments
from pruning.calibration.samples import seen_and_given
from pruning.quantization.ranges import LEVELS, Range
from yolo.layers import Layer
from yolo.layers.convolutional import Convolutional
from yolo.network import Network

TOP = 127  # the largest level of a weight; the smallest is -127
CLIPS = tuple(1 - step / 20 for step in range(11))  # shares of the largest weight, tried as ends
RIDGE = 1e-1  # of the mean variance of what a section sees
SAMPLES = 16384  # places that a section is looked at
PER_WEIGHT = 4  # places for each weight of an output, at least

Scales = dict[int, Tensor]  # section → (filters,) steps of its weights


@torch.no_grad()
def rounded(
    fused: Network, ranges: Mapping[int, Range], sections: Sequence[int], images: Sequence[Tensor]
) -> Scales:
    """Round the weights of convolutions of a fused network, in place; the steps of their grids.

    `ranges` are those of the sections' 8-bit outputs; `images` are batches (N, C, H, W) in [0, 1].
    Biases become such that the mean of every output stays.
    """
    original = copy.deepcopy(fused)
    theirs, ours = Outputs(original, images), _Rounded(fused, images, ranges)
    scales: Scales = {}
    for i, layer in enumerate(fused.layers):
        if layer.is_head:
            continue
        if i in sections:
            assert isinstance(layer, Convolutional)
            moments = _moments(layer, original.layers[i], ours.inputs(i), theirs.inputs(i))
            scales[i] = _round(layer, moments)
        theirs.compute(i)
        ours.compute(i)
    return scales


class _Rounded(Outputs):
    """Outputs of sections on the levels of their ranges."""

    def __init__(
        self, network: Network, batches: Sequence[Tensor], ranges: Mapping[int, Range]
    ) -> None:
        super().__init__(network, batches)
        self.ranges = ranges

    def compute(self, section: int) -> None:
        """Run a section, and round what it gives."""
        layer, range = self.network.layers[section], self.ranges.get(section)
        batches = zip(*self._held.inputs(layer), strict=True)
        found = (layer(*xs) for xs in batches)
        on_grid = (on_levels(x, range) if range else x for x in found)
        self._held.keep(layer, [self._stored(x) for x in on_grid])


def on_levels(x: Tensor, range: Range) -> Tensor:
    """Numbers rounded to the 8-bit levels of a range: (…) → (…)"""
    zero = round(-range.low / range.scale)
    return ((x / range.scale).round() + zero).clamp(0, LEVELS).sub(zero).mul(range.scale)


def _moments(
    layer: Convolutional, original: Layer, ours: Sequence[Tensor], theirs: Sequence[Tensor]
) -> Moments:
    """Of what a section sees and of what it should give."""
    per_output = layer.conv.weight[0].numel()
    images = sum(map(len, ours))
    places = -(-max(SAMPLES, PER_WEIGHT * per_output) // images)
    random = torch.Generator().manual_seed(layer.section.index)
    total: Moments | None = None
    for x, y in zip(ours, theirs, strict=True):
        part = Moments.of(*seen_and_given(layer, x, original.weigh(y), places, random))  # type: ignore
        total = total + part if total else part
    assert total
    return total


def _round(layer: Convolutional, moments: Moments) -> Tensor:
    """Round a section's weights by its moments; the steps (filters,) of the outputs' grids."""
    weights = layer.conv.weight
    first = weights.double().flatten(1).unflatten(0, (layer.groups, -1)).mT
    grid, steps = rounded_weights(first, moments)
    layer.conv.weight.copy_(grid.mT.flatten(0, 1).reshape(weights.shape))
    assert layer.conv.bias is not None
    layer.conv.bias.copy_(moments.bias(grid).flatten())
    return steps.flatten().to(weights)


def rounded_weights(first: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """Weights (G, n, m) on grids, with nearly the same outputs, and the grids' steps (G, m)."""
    covariance, target = _quadratic(first, moments)
    steps = _steps(target, covariance)
    inverse = torch.linalg.inv(covariance)
    factor = torch.linalg.cholesky(inverse, upper=True)  # (G, n, n)
    free, grid = target.clone(), torch.empty_like(target)
    for k in range(first.shape[1]):
        grid[:, k] = (free[:, k] / steps).round().clamp(-TOP, TOP) * steps
        left = (free[:, k] - grid[:, k]) / factor[:, k, k, None]
        free[:, k:] -= factor[:, k, k:, None] * left[:, None]
    return grid, steps


def _quadratic(first: Tensor, moments: Moments) -> tuple[Tensor, Tensor]:
    """The covariance (G, n, n) of what is seen, with a ridge, and the best weights (G, n, m)."""
    xx, xy, _ = moments.centred()
    size = (xx.diagonal(dim1=1, dim2=2).mean(1) + 1e-30)[:, None, None]
    covariance = xx / size + RIDGE * torch.eye(xx.shape[1]).to(xx)
    return covariance, first + torch.linalg.solve(covariance, (xy - xx @ first) / size)


def _steps(weights: Tensor, covariance: Tensor) -> Tensor:
    """The step (G, m) of each output's grid with which rounding to the nearest costs the least."""
    top = weights.abs().amax(1).clamp(min=1e-12)
    tried = torch.stack([share * top / TOP for share in CLIPS])
    errors = []
    for steps in tried:
        nearest = (weights / steps[:, None]).round().clamp(-TOP, TOP) * steps[:, None]
        off = weights - nearest
        errors.append((off * (covariance @ off)).sum(1))
    best = torch.stack(errors).argmin(0)
    return tried.gather(0, best[None])[0]
