"""Samples of what sections see: positions in their maps, drawn at random."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yolo.layers import Layer
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional

POSITIONS = 1024  # of a map; more hardly change a covariance


def sample_positions(
    x: Tensor, groups: int, random: torch.Generator, count: int = POSITIONS
) -> Tensor:
    """Channels at up to `count` positions of each image: (N, C, H, W) → (G, samples, C / G)"""
    flat = x.flatten(2)
    if flat.shape[2] > count:
        flat = flat[:, :, torch.randperm(flat.shape[2], generator=random)[:count]]
    return flat.unflatten(1, (groups, -1)).permute(1, 0, 3, 2).flatten(1, 2)


def seen_and_given(
    layer: Layer, x: Tensor, y: Tensor, count: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A section's inputs, and its outputs before BN, at up to `count` positions of each image.

    Input (N, C, H, W), outputs (N, m, H', W') → (G, samples, weights of an output) and
    (G, samples, m / G).
    """
    if isinstance(layer, Connected):
        return x.flatten(1)[None], y.flatten(1)[None]
    assert isinstance(layer, Convolutional)
    width = y.shape[3]
    positions = torch.arange(y.shape[2] * width)
    if len(positions) > count:
        positions = torch.randperm(len(positions), generator=random)[:count]
    rows, columns = positions // width * layer.stride[0], positions % width * layer.stride[1]
    padded = F.pad(x, [layer.padding * layer.dilation] * 4)
    steps = range(0, layer.size * layer.dilation, layer.dilation)
    taps = [padded[:, :, rows + i, columns + j] for i in steps for j in steps]
    inputs = torch.stack(taps, 2).unflatten(1, (layer.groups, -1)).flatten(2, 3)  # (N, G, n, S)
    outputs = y.flatten(2)[:, :, positions].unflatten(1, (layer.groups, -1))
    return inputs.permute(1, 0, 3, 2).flatten(1, 2), outputs.permute(1, 0, 3, 2).flatten(1, 2)
