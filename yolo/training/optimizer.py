"""The optimiser of [net], and the steps from which sections learn."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import Optimizer

from yolo.layers import Layer
from yolo.network import Network
from yolo.training.settings import Settings

# The variance of a superfluous group has to grow by a factor of thousands. At the learning rate of
# the weights that alone would take tens of epochs of MNIST, and some groups would never get there.
SPREAD_RATE = 10.0


def make_optimizer(network: Network, settings: Settings) -> Optimizer:
    """SGD with momentum, or Adam for adam=1; only weights decay, as in Darknet.

    `learning_rate=` of a section scales its rate; scales and variances of Bayesian ones learn
    SPREAD_RATE times as fast. Raises CfgError where nothing is to be trained.
    """
    freeze(network)
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for layer in network.layers:
        scale, thaw = layer.section.number("learning_rate", 1.0), thaws(network, layer, settings)
        for name, tensor in layer.stored().items():
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                is_bayesian = layer.plain_type is not None
                # a Bayesian section's prior regularises its weights already
                decays = name == "weights" and not is_bayesian
                is_spread = is_bayesian and layer.first(name) is not None
                factor = SPREAD_RATE if is_spread else 1.0
                groups.setdefault((scale * factor, thaw, decays), []).append(tensor)
    if not groups:
        raise network.cfg.net.error("nothing is left to train: all sections are frozen")
    parameters = [
        {"params": group, "scale": scale, "thaw": thaw, "weight_decay": settings.decay * decays}
        for (scale, thaw, decays), group in groups.items()
    ]
    if settings.adam:
        return torch.optim.Adam(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)


def update(optimizer: Optimizer, scaler: torch.amp.GradScaler, rate: float, step: int) -> None:
    """One step at this learning rate; frozen parameters stay unchanged, without decay."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
        if step < group["thaw"]:
            for parameter in group["params"]:
                parameter.grad = None
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


def thaws(network: Network, layer: Layer, settings: Settings) -> float:
    """The step from which a section learns, infinite for never (network_kernels.cu).

    stopbackward=1 freezes its section and all before it for ever, stopbackward=N for N steps;
    dont_update=N freezes its own section for N steps, burnin_update=N for N burn-ins;
    train_only_bn=1 lets its section and all before it learn only BN's statistics.
    """
    later = network.cfg.layers[layer.section.index :]  # its own section included
    if any(s.flag("train_only_bn") or s.integer("stopbackward", 0) == 1 for s in later):
        return math.inf
    own = layer.section
    steps = [s.integer("stopbackward", 0) for s in later] + [own.integer("dont_update", 0)]
    burn_in = own.integer("burnin_update", 0) * settings.burn_in
    return max(max(steps) * settings.stretch, burn_in)


def freeze(network: Network) -> None:
    """Switch off the gradient of parameters that never learn."""
    for layer in network.layers:
        learns = thaws(network, layer, Settings()) < math.inf
        for tensor in layer.stored().values():
            if isinstance(tensor, nn.Parameter):
                tensor.requires_grad_(learns)


def train_mode(network: Network) -> None:
    """Set training mode, except for sections before stopbackward=1: their statistics stay."""
    network.train()
    stops = [s.index for s in network.cfg.layers if s.integer("stopbackward", 0) == 1]
    for layer in network.layers[: max(stops, default=0)]:
        layer.eval()
