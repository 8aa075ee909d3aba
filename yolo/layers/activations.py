"""Darknet's activations (activations.h)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo.cfg import Section

Function = Callable[[Tensor], Tensor]


def _mish(x: Tensor) -> Tensor:
    return F.mish(x)


def _hard_mish(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.where(x > -2, x * x / 2 + x, torch.zeros_like(x)))


def _selu(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0507 * x, 1.0507 * 1.6732 * (torch.exp(x) - 1))


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(0.797885 * x + 0.035677 * x**3))


def _plse(x: Tensor) -> Tensor:
    middle = torch.where(x > 4, 0.01 * (x - 4) + 1, 0.125 * x + 0.5)
    return torch.where(x < -4, 0.01 * (x + 4), middle)


def _stair(x: Tensor) -> Tensor:
    n = torch.floor(x)
    half = torch.floor(x / 2)
    return torch.where(torch.remainder(n, 2) == 0, half, (x - n) + half)


def _lhtan(x: Tensor) -> Tensor:
    return torch.where(x < 0, 0.001 * x, torch.where(x > 1, 0.001 * (x - 1) + 1, x))


def _normalize_channels(x: Tensor) -> Tensor:
    positive = F.relu(x)
    return positive / (positive.sum(1, keepdim=True) + 1e-4)


def _softmax_channels(x: Tensor) -> Tensor:
    e = torch.exp(x)
    return e / (e.sum(1, keepdim=True) + 1e-4)


def _softmax_maxval_channels(x: Tensor) -> Tensor:
    return _softmax_channels(x - x.amax(1, keepdim=True))


ACTIVATIONS: dict[str, Function] = {
    "linear": lambda x: x,
    "leaky": lambda x: F.leaky_relu(x, 0.1),
    "relu": F.relu,
    "relu6": F.relu6,
    "logistic": torch.sigmoid,
    "swish": F.silu,
    "mish": _mish,
    "hard_mish": _hard_mish,
    "tanh": torch.tanh,
    "elu": F.elu,
    "selu": _selu,
    "gelu": _gelu,
    "loggy": lambda x: 2 * torch.sigmoid(x) - 1,
    "relie": lambda x: F.leaky_relu(x, 0.01),
    "ramp": lambda x: F.relu(x) + 0.1 * x,
    "revleaky": lambda x: F.leaky_relu(x, 0.1),
    "plse": _plse,
    "stair": _stair,
    "hardtan": F.hardtanh,
    "lhtan": _lhtan,
    "normalize_channels": _normalize_channels,
    "normalize_channels_softmax": _softmax_channels,
    "normalize_channels_softmax_maxval": _softmax_maxval_channels,
}
IN_PLACE: dict[str, Function] = {
    "leaky": lambda x: F.leaky_relu_(x, 0.1),
    "relu": F.relu_,
}
# Their value depends on all channels of a cell.
ACROSS_CHANNELS = frozenset(name for name in ACTIVATIONS if name.startswith("normalize_channels"))


class Activation(nn.Module):
    """One of Darknet's activations; only a convolution may have one that mixes channels."""

    def __init__(self, section: Section, default: str = "linear", mixing: bool = False) -> None:
        super().__init__()
        known = {n: n for n in ACTIVATIONS if mixing or n not in ACROSS_CHANNELS}
        self.name = section.choice("activation", default, known)

    @property
    def mixes_channels(self) -> bool:
        return self.name in ACROSS_CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        """(…) → (…), element by element unless it mixes channels (N, C, …)."""
        return ACTIVATIONS[self.name](x)

    def onto(self, x: Tensor) -> Tensor:
        """The result of forward, in place where possible; nothing else may need x."""
        in_place = IN_PLACE.get(self.name)
        return in_place(x) if in_place else self(x)

    def extra_repr(self) -> str:
        return self.name
