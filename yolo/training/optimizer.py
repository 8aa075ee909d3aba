"""The optimiser that [net] asks for, and what the sections say about being trained."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.optim import Optimizer

from yolo.layers import Layer
from yolo.network import Network
from yolo.training.settings import Settings


def make_optimizer(network: Network, settings: Settings) -> Optimizer:
    """SGD with momentum, or Adam for adam=1; only weights decay, as in Darknet.

    `learning_rate=` of a section scales its rate; `dont_update=1`, `train_only_bn=1` and
    `stopbackward=1` freeze (convolutional_layer.c, network.c). Raises CfgError where nothing is
    left to train.
    """
    freeze(network)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for layer, name, parameter in _trained(network):
        scale = layer.section.number("learning_rate", 1.0)
        groups.setdefault((scale, name == "weights"), []).append(parameter)
    if not groups:
        raise network.cfg.net.error("nothing is left to train")
    parameters = [
        {"params": group, "scale": scale, "weight_decay": settings.decay if decays else 0.0}
        for (scale, decays), group in groups.items()
    ]
    if settings.adam:
        return torch.optim.Adam(
            parameters, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps
        )
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)


def freeze(network: Network) -> None:
    """Take the gradient from what its section, or one behind it, says is not to be trained."""
    for layer in network.layers:
        for parameter in layer.parameters(recurse=True):
            parameter.requires_grad_(True)
    for layer in network.layers:
        for name, tensor in layer.stored().items():
            if isinstance(tensor, nn.Parameter) and _frozen(network, layer, name):
                tensor.requires_grad_(False)


def train_mode(network: Network) -> None:
    """Training behaviour, but for sections in front of stopbackward=1: their statistics stay."""
    network.train()
    for layer in network.layers[: _stop(network)]:
        layer.eval()


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group its learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def _trained(network: Network) -> Iterator[tuple[Layer, str, nn.Parameter]]:
    for layer in network.layers:
        for name, tensor in layer.stored().items():
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                yield layer, name, tensor


def _frozen(network: Network, layer: Layer, name: str) -> bool:
    if layer.section.index < _stop(network) or layer.section.flag("dont_update"):
        return True
    only_bn = any(s.flag("train_only_bn") for s in network.cfg.layers[layer.section.index :])
    return only_bn and name == "weights"


def _stop(network: Network) -> int:
    """The first section that the gradient reaches."""
    stops = [s.index for s in network.cfg.layers if s.flag("stopbackward")]
    return max(stops, default=0)
