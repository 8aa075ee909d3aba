"""Trained-looking parameters, to try a structure before it is trained."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from yolo.errors import CfgError
from yolo.layers import Layer, Shape
from yolo.layers.activations import Activation
from yolo.layers.batchnorm import BatchNorm
from yolo.layers.bayesian import bayesian_layers
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.layers.local import Local
from yolo.models.initialize import initialize
from yolo.network import Network

MOST_BYTES = 2**33
NOISE = 0.5  # share of a Bayesian section's groups that are made superfluous


def randomize(network: Network, seed: int = 0) -> None:
    """Fill a network: He weights, BN statistics measured on smooth noise, spread γ and β.

    He et al., Delving Deep into Rectifiers (ICCV 2015). Half of a Bayesian network's groups are
    made superfluous. Raises CfgError for a network that is too large for memory.
    """
    if 4 * network.count_floats() > MOST_BYTES:
        needed = f"needs {4 * network.count_floats() / 2**30:.0f} GiB for its weights"
        raise CfgError(f"{network.cfg.path}: {needed}, at most {MOST_BYTES / 2**30:.0f} are used")
    check_memory(network)
    random = torch.Generator().manual_seed(seed)
    plain = network.plain()
    if plain is not network:
        randomize(plain, seed)
        network.store(plain.state())
        initialize(network, seed)
        for layer in bayesian_layers(network.layers).values():
            layer.prior.fade(torch.rand(len(layer.log_alpha()), generator=random) < NOISE)
        return
    hooks = [
        layer.register_forward_pre_hook(lambda layer, xs: _fill(layer, xs[0], random))
        for layer in network.layers
    ]
    last = len(network.layers) - 1
    with torch.no_grad():
        network(smooth_noise(network.image, 1, random), collect=[last])
    for hook in hooks:
        hook.remove()


def check_memory(network: Network) -> None:
    """Raises CfgError where a section needs too much memory for one image."""
    for layer in network.layers:
        maps = sum(shape.elements for shape in (*layer.inputs, layer.out_shape))
        size = 4 * (maps + layer.working_elements())
        if size > MOST_BYTES // 4:
            inputs = " + ".join(map(str, layer.inputs))
            raise layer.section.error(
                f"needs {size / 2**30:.1f} GiB to make {layer.out_shape} from {inputs}: "
                f"at most {MOST_BYTES // 4 / 2**30:g} GiB are used for one section"
            )


def smooth_noise(shape: Shape, count: int, random: torch.Generator) -> Tensor:
    """Noise with structure at several scales: (count, C, H, W) in [0, 1]."""
    total = torch.zeros(count, shape.channels, shape.height, shape.width)
    for step in (1, 4, 16, 64):
        height, width = -(-shape.height // step), -(-shape.width // step)
        small = torch.rand(count, shape.channels, height, width, generator=random)
        large = small.repeat_interleave(step, 2).repeat_interleave(step, 3)
        total += large[:, :, : shape.height, : shape.width] / 4
    return total


def _fill(layer: nn.Module, x: Tensor, random: torch.Generator) -> None:
    assert isinstance(layer, Layer)
    if not x.isfinite().all():
        raise layer.section.error("with random weights its input is not finite")
    tensors = {n: _about(layer.first(n), t, random) for n, t in layer.stored().items()}
    if not tensors:
        layer.tie()
        return
    weights = tensors.get("weights")
    if weights is not None:
        weights.normal_(generator=random)
    if isinstance(layer, (Convolutional, Connected, Local)):
        assert weights is not None
        weights *= _he(layer)
        tensors["biases"].normal_(std=0.1, generator=random)
    elif isinstance(layer, BatchNorm):
        _calibrate(tensors, x, random)
    elif weights is not None:
        weights.mul_(0.2).add_(1)
    layer.store(tensors)
    if "scales" in tensors and not isinstance(layer, BatchNorm):
        _calibrate(tensors, _before_bn(layer, x), random)
    elif isinstance(layer, (Convolutional, Connected)) and weights is not None:
        spread = float(_before_bn(layer, x).std(unbiased=False))
        weights *= 1 / max(spread, 1e-6)


def _about(centre: Tensor | None, like: Tensor, random: torch.Generator) -> Tensor:
    """Random values around `centre`; 0 where that is None."""
    if centre is None:
        return torch.zeros(like.shape)
    return centre * (1 + 0.2 * torch.randn(like.shape, generator=random))


def _he(layer: Convolutional | Connected | Local) -> float:
    fan_in = layer.stored()["weights"].shape[1:].numel()
    if isinstance(layer, Local):
        fan_in = layer.stored()["weights"].shape[2]
    activation: Activation = layer.activation
    return math.sqrt((1 if activation.name == "linear" else 2) / fan_in)


def _before_bn(layer: Layer, x: Tensor) -> Tensor:
    """The input (N, C, …) of the batch normalisation."""
    if isinstance(layer, Connected):
        return layer.linear(x.flatten(1))
    assert isinstance(layer, Convolutional)
    return layer.conv(x)


def _calibrate(tensors: dict[str, Tensor], y: Tensor, random: torch.Generator) -> None:
    """BN statistics near those of y (N, C, …), spread scales and shifts."""
    rows = y.transpose(0, 1).flatten(1)
    # a channel that hardly varies would be amplified beyond all measure
    deviation = rows.std(1, unbiased=False).clamp(min=max(0.5 * float(y.std(unbiased=False)), 1e-3))
    count = len(rows)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=random)

    def normal(size: float) -> Tensor:
        return size * torch.randn(count, generator=random)

    tensors["mean"].copy_(rows.mean(1) + deviation * normal(0.2))
    tensors["variance"].copy_(deviation.square() * uniform(0.6, 1.6))
    tensors["scales"].copy_(uniform(0.1, 1.3))
    # with shifts around 0, differences such as rounding noise grow in every layer of a random
    # network (Yang et al., A Mean Field Theory of Batch Normalization, ICLR 2019)
    tensors["biases"].copy_(0.5 + normal(0.5))


def noise_image(network: Network, seed: int = 0) -> Tensor:
    """An image of smooth noise: (1, C, H, W)"""
    return smooth_noise(network.image, 1, torch.Generator().manual_seed(seed))
