"""[bayesian_convolutional] and [bayesian_connected]: weights with a posterior, in groups that fade.

Louizos, Ullrich, Welling: Bayesian Compression for Deep Learning (NIPS 2017, arXiv 1705.08665).
A group's weights are w·z: w is normal, z is the group's scale. In training outputs are drawn from
their own distribution (local reparametrisation), else the posterior means are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.base import Layer, Shape, empty, register
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.layers.priors import FIRST_LOGVAR, PRIORS, Horseshoe, NormalJeffreys

KEYS = ("prior", "clip_var", "tau0")  # beside those of the plain section
# variance over the mean square of given weights: e^FIRST_LOGVAR would hide small ones
FIRST_SHARE = 0.01
LEAST_VARIANCE = 1e-16  # of an output; the root has no gradient at 0


class Bayesian(Layer):
    """The common part of both sections; `deterministic` makes training use the means, too.

    `dropped` (G,) of bool marks groups that are switched off, None for none.
    """

    plain_lacks = KEYS
    deterministic = False
    dropped: Tensor | None = None
    prior: NormalJeffreys | Horseshoe

    def _make_bayesian(self, groups: int) -> None:
        """Add posteriors and prior; called when the plain section is complete."""
        section = self.section
        if self.owner:
            raise section.error("share_index= can't be used in Bayesian sections", "share_index")
        self.clip_var = section.number("clip_var", 0.0) if section.has("clip_var") else math.inf
        if self.clip_var <= 0:
            raise section.error(f"clip_var={self.clip_var:g}: expected more than 0", "clip_var")
        self.prior = section.choice("prior", "gnj", PRIORS)(groups, section)
        self.weight_logvar = nn.Parameter(empty(*self._linear.weight.shape))
        bias = self._linear.bias
        self.bias_logvar = None if bias is None else nn.Parameter(empty(*bias.shape))

    @property
    def _linear(self) -> nn.Conv2d | nn.Linear:
        """The module that holds the means of weights and biases."""
        raise NotImplementedError

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        """Slots of the plain section, then of log-variances and the prior."""
        logvars: dict[str, tuple[nn.Module, str]] = {"weights_logvar": (self, "weight_logvar")}
        if self.bias_logvar is not None:
            logvars["biases_logvar"] = self, "bias_logvar"
        return super().slots() | logvars | self.prior.slots()

    def store(self, tensors: Mapping[str, Tensor]) -> None:
        """Use tensors without copying them; those of a plain section leave the others unchanged."""
        plain = super().slots()
        if tensors.keys() == plain.keys():
            tensors = self.stored() | dict(tensors)
        super().store(tensors)

    def first(self, name: str) -> Tensor | None:
        """The value around which a tensor is initialised: the prior's, or a small log-variance."""
        if name in self.prior.slots():
            return self.prior.first(name)
        if not name.endswith("_logvar"):
            return None
        weights = self._linear.weight
        if weights.is_meta or name != "weights_logvar":
            return torch.tensor(FIRST_LOGVAR)
        known = (FIRST_SHARE * weights.detach().square().mean()).log()
        return known.clamp(max=FIRST_LOGVAR)

    @torch.no_grad()
    def log_alpha(self) -> Tensor:
        """Log α (G,) of the groups, or the negative log-mode: higher for superfluous ones."""
        return self.prior.log_alpha()

    def scales(self) -> Tensor:
        """The mean scale of each group, 0 where it is dropped: (G,)"""
        mean = self.prior.mean()
        return mean if self.dropped is None else mean.masked_fill(self.dropped, 0)

    @torch.no_grad()
    def moments(self) -> tuple[Tensor, Tensor]:
        """Posterior means and variances of the weights, of their shape; 0 in dropped groups."""
        mean, spread = self.scales(), self.prior.variance()
        if self.dropped is not None:
            spread = spread.masked_fill(self.dropped, 0)
        mean, spread = self._spread(mean), self._spread(spread)
        weights, variance = self._linear.weight, self.weight_logvar.exp()
        total = mean.square() * variance + spread * weights.square() + spread * variance
        return weights * mean, total

    @torch.no_grad()
    def means(self) -> dict[str, Tensor]:
        """Tensors of the plain section, with the scales multiplied into the weights."""
        stored = self.stored()
        plain = {name: stored[name].detach() for name in super().slots()}
        return plain | {"weights": self.moments()[0]}

    def kl(self) -> Tensor:
        """KL(posterior ‖ prior) of scales, weights and biases, summed."""
        total = self.prior.kl() + kl_normal(self._linear.weight, self.weight_logvar)
        if self._linear.bias is None or self.bias_logvar is None:
            return total
        return total + kl_normal(self._linear.bias, self.bias_logvar)

    @torch.no_grad()
    def clip(self) -> None:
        """Limit the variances of weights and biases to clip_var."""
        if self.clip_var < math.inf:
            for logvar in (self.weight_logvar, self.bias_logvar):
                if logvar is not None:
                    logvar.clamp_(max=math.log(self.clip_var))

    @property
    def _draws(self) -> bool:
        return self.training and not self.deterministic

    def _drawn(self, mean: Tensor, x: Tensor) -> Tensor:
        """Outputs drawn around `mean`, with the variance from uncertain weights and inputs x."""
        kind = x.device.type
        narrow = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.half
        # squares overflow in float16, not in bfloat16
        with torch.autocast(kind, enabled=False) if narrow else nullcontext():
            variance = self._variance((x.float() if narrow else x).square())
        drawn: Tensor = _Drawn.apply(mean.to(variance), variance)
        return drawn.to(mean)

    def _variance(self, squared: Tensor) -> Tensor:
        """The variance of the outputs, before the groups' scales, from squared inputs."""
        raise NotImplementedError

    def _spread(self, values: Tensor) -> Tensor:
        """One number for each group (G,), shaped to multiply the weights."""
        raise NotImplementedError


@register("bayesian_convolutional")
class BayesianConvolutional(Bayesian, Convolutional):
    """A convolution whose groups are its filters, biases included where it has any."""

    plain_type = "convolutional"
    in_darknet = False

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self._make_bayesian(self.filters)

    @property
    def _linear(self) -> nn.Conv2d | nn.Linear:
        return self.conv

    def weigh(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, filters, H', W')"""
        mean = self.conv(x)
        if not self._draws:
            return mean * self.scales()[:, None, None]
        scales = self.prior.sample(len(x))[:, :, None, None].to(mean)
        return self._drawn(mean, x) * scales

    def normalize(self, x: Tensor) -> Tensor:
        """The output of BN; a dropped filter gives its shift, the mean of its former output."""
        x = super().normalize(x)
        if self.bn is not None and self.dropped is not None:
            shift: Tensor = self.bn.bias  # type: ignore[assignment]
            x = torch.where(self.dropped[:, None, None], shift[:, None, None], x)
        return x

    @torch.no_grad()
    def means(self) -> dict[str, Tensor]:
        """Tensors of the plain section, with biases scaled or, with BN, dropped filters at 0."""
        plain = super().means()
        if self.bn is None:
            plain["biases"] = plain["biases"] * self.scales()
        elif self.dropped is not None:
            plain["scales"] = plain["scales"].masked_fill(self.dropped, 0)
        return plain

    def _variance(self, squared: Tensor) -> Tensor:
        bias = None if self.bias_logvar is None else self.bias_logvar.exp()
        return self.conv._conv_forward(squared, self.weight_logvar.exp(), bias)

    def _spread(self, values: Tensor) -> Tensor:
        return values[:, None, None, None]


@register("bayesian_connected")
class BayesianConnected(Bayesian, Connected):
    """A fully connected layer whose groups are its inputs."""

    plain_type = "connected"
    in_darknet = False

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self._make_bayesian(self.linear.in_features)

    @property
    def _linear(self) -> nn.Conv2d | nn.Linear:
        return self.linear

    def weigh(self, x: Tensor) -> Tensor:
        """(N, inputs) → (N, outputs)"""
        if not self._draws:
            return self.linear(x * self.scales())
        x = x * self.prior.sample(len(x)).to(x)
        return self._drawn(self.linear(x), x)

    def _variance(self, squared: Tensor) -> Tensor:
        bias = None if self.bias_logvar is None else self.bias_logvar.exp()
        return F.linear(squared, self.weight_logvar.exp(), bias)

    def _spread(self, values: Tensor) -> Tensor:
        return values[None]


class _Drawn(torch.autograd.Function):
    """Normal numbers of these means and variances, in half the passes that autograd would take."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, variance: Tensor) -> Tensor:
        """Draw the numbers, of the shape of `mean`."""
        deviation = variance.clamp(min=LEAST_VARIANCE).sqrt_()
        # dense, then laid out alike: in channels_last randn_like draws number by number, which
        # takes eight times as long; in float32, as bfloat16's uniform numbers reach 1
        noise = torch.randn(mean.numel(), device=mean.device).to(mean)
        noise = noise.as_strided(deviation.shape, deviation.stride())
        drawn = torch.addcmul(mean, deviation, noise)
        ctx.save_for_backward(noise.div_(deviation))
        return drawn

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (ratio,) = ctx.saved_tensors
        return grad, grad * ratio / 2


class _NormalKL(torch.autograd.Function):
    """KL(N(mean, e^logvar) ‖ N(0, 1)), summed, in a third of the memory that autograd needs."""

    @staticmethod
    def forward(ctx: Any, mean: Tensor, logvar: Tensor) -> Tensor:
        variance = logvar.exp()
        ctx.save_for_backward(mean, variance)
        return (variance + mean.square() - logvar - 1).sum() / 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = ctx.saved_tensors
        return grad * mean, grad * (variance - 1) / 2


def kl_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mean, e^logvar) ‖ N(0, 1)), summed over all elements."""
    result: Tensor = _NormalKL.apply(mean, logvar)
    return result


def bayesian_layers(layers: Iterable[Layer]) -> dict[int, Bayesian]:
    """The Bayesian sections among a network's layers, by index."""
    return {i: layer for i, layer in enumerate(layers) if isinstance(layer, Bayesian)}
