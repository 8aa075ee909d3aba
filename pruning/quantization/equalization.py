"""Cross-layer equalisation: channels between two convolutions get alike ranges.

Nagel et al.: Data-Free Quantization Through Weight Equalization and Bias Correction (ICCV 2019).
A channel is divided by a factor where it is made and multiplied where it is used; with a linear, a
ReLU or a leaky ReLU in between the network computes what it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from yolo.layers.convolutional import Convolutional
from yolo.network import Network

SCALABLE = ("linear", "relu", "leaky", "relie", "revleaky")
LEAST = 1e-2  # of the widest channel's range; narrower channels are widened no more


def pairs(network: Network) -> list[tuple[Convolutional, Convolutional]]:
    """Convolutions that feed one other convolution, and nothing else, and that one."""
    found = []
    for i, layer in enumerate(network.layers):
        users = [network.layers[j] for j in network.consumers[i]]
        if len(users) == 1 and _scales(layer) and _takes(users[0]):
            found.append((layer, users[0]))
    return found  # type: ignore[return-value]


@torch.no_grad()
def largest(network: Network, images: Sequence[Tensor]) -> dict[int, Tensor]:
    """The largest magnitude of every channel (C,) that a pair passes on, for batches of images."""
    wanted = [first.section.index for first, _ in pairs(network)]
    found: dict[int, Tensor] = {}
    for batch in images:
        for i, output in network(batch, wanted).items():
            peak = output.abs().amax((0, 2, 3))
            found[i] = torch.maximum(found[i], peak) if i in found else peak
    return found


@torch.no_grad()
def equalize(fused: Network, peaks: Mapping[int, Tensor]) -> None:
    """Equalise the channels of a fused network, in place, by their `largest` magnitudes."""
    for first, second in pairs(fused):
        factor = _factors(peaks[first.section.index], second)
        column = factor.reshape(-1, 1, 1, 1)
        first.conv.weight /= column
        assert first.conv.bias is not None
        first.conv.bias /= factor
        second.conv.weight *= column if not second.mixes else _per_input(factor, second)


def _factors(peaks: Tensor, second: Convolutional) -> Tensor:
    """The divisor of each channel: (C,)

    A depthwise convolution has a grid for each channel, so its inputs become equally wide; of
    others, the root shares what is uneven between inputs and weights.
    """
    wide = peaks.clamp(min=LEAST * float(peaks.max()) + 1e-12)
    if not second.mixes:
        return wide / wide.max()
    per_input = second.conv.weight.abs().amax((2, 3)).unflatten(0, (second.groups, -1)).amax(1)
    weights = per_input.flatten()
    weights = weights.clamp(min=LEAST * float(weights.max()) + 1e-12)
    root = (wide / weights).sqrt()
    return root / root.max()


def _per_input(factor: Tensor, second: Convolutional) -> Tensor:
    """Factors (C,) as they stand at weights (filters, C / groups, size, size)."""
    rows = factor.unflatten(0, (second.groups, -1))
    return rows.repeat_interleave(second.filters // second.groups, 0)[:, :, None, None]


def _scales(layer: object) -> bool:
    return (
        isinstance(layer, Convolutional)
        and layer.activation.name in SCALABLE
        and not _is_shared(layer)
    )


def _takes(layer: object) -> bool:
    return isinstance(layer, Convolutional) and not _is_shared(layer)


def _is_shared(layer: Convolutional) -> bool:
    return layer.section.has("share_index")
