"""Group scales of Bayesian sections, each shared by the weights of a group, and their priors.

Louizos, Ullrich, Welling: Bayesian Compression for Deep Learning (NIPS 2017, arXiv 1705.08665).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.base import empty

EPSILON = 1e-8  # keeps log α finite where a mean is 0
# constants of the sigmoids that approximate the KL from the normal-Jeffreys prior (Molchanov,
# Ashukha, Vetrov: Variational Dropout Sparsifies Deep Neural Networks, ICML 2017)
K1, K2, K3 = 0.63576, 1.87320, 1.48695
FIRST_LOGVAR = -9.0
FADED = 5.0  # log α, or the negative log-mode, of a superfluous group
Names = dict[str, tuple[nn.Module, str]]


class Prior(Protocol):
    """The posterior of the groups' scales z (G,), and its divergence from the prior."""

    def slots(self) -> Names:
        """Module and attribute of each tensor."""

    def first(self, name: str) -> Tensor:
        """The value around which a tensor is initialised."""

    def sample(self, count: int) -> Tensor:
        """Draw scales for `count` images: (count, G)."""

    def mean(self) -> Tensor:
        """Posterior means (G,)."""

    def variance(self) -> Tensor:
        """Posterior variances (G,)."""

    def log_alpha(self) -> Tensor:
        """Log α (G,) of the groups, or what stands for it: higher for superfluous ones."""

    def kl(self) -> Tensor:
        """KL(posterior ‖ prior), summed over all scales."""

    def fade(self, groups: Tensor) -> None:
        """Make groups superfluous, given as a mask (G,)."""


class NormalJeffreys(nn.Module):
    """z ~ N(μ, σ²) under the improper prior p(z) ∝ 1/|z|; log α = log(σ²/μ²)."""

    def __init__(self, groups: int, section: Section) -> None:
        super().__init__()
        self.z_mean = nn.Parameter(empty(groups))
        self.z_logvar = nn.Parameter(empty(groups))

    def slots(self) -> Names:
        return {"z_mean": (self, "z_mean"), "z_logvar": (self, "z_logvar")}

    def first(self, name: str) -> Tensor:
        return torch.tensor(1.0 if name == "z_mean" else FIRST_LOGVAR)

    def sample(self, count: int) -> Tensor:
        return self.z_mean + (self.z_logvar / 2).exp() * _noise(count, self.z_mean)

    def mean(self) -> Tensor:
        return self.z_mean

    def variance(self) -> Tensor:
        return self.z_logvar.exp()

    def log_alpha(self) -> Tensor:
        return self.z_logvar - (self.z_mean.square() + EPSILON).log()

    def kl(self) -> Tensor:
        """KL up to a constant, approximated by a sum of sigmoids of log α."""
        alpha = self.log_alpha()
        return (K1 - K1 * torch.sigmoid(K2 + K3 * alpha) + F.softplus(-alpha) / 2).sum()

    @torch.no_grad()
    def fade(self, groups: Tensor) -> None:
        self.z_logvar[groups] = FADED


class Horseshoe(nn.Module):
    """z = s·z̃ with half-Cauchy s and z̃, each the root of a Gamma times an inverse Gamma variable.

    The four have log-normal posteriors, so z ~ LN(μ, σ²). The negative log-mode σ² − μ
    stands for log α. The tensors have two rows, the Gamma and the inverse Gamma variables; `tau0`
    scales s.
    """

    def __init__(self, groups: int, section: Section) -> None:
        super().__init__()
        self.tau0 = section.number("tau0", 1e-5)
        if self.tau0 <= 0:
            raise section.error(f"tau0={self.tau0:g}: expected more than 0", "tau0")
        self.global_mean = nn.Parameter(empty(2, 1))
        self.global_logvar = nn.Parameter(empty(2, 1))
        self.local_mean = nn.Parameter(empty(2, groups))
        self.local_logvar = nn.Parameter(empty(2, groups))

    def slots(self) -> Names:
        return {name: (self, name) for name in self._parameters}

    def first(self, name: str) -> Tensor:
        """Initial value: scales start at 1, the inverse Gamma part of s compensates the other."""
        if name == "global_mean":
            scale = 2 * math.log(self.tau0)
            return torch.tensor([[scale], [-scale]])
        return torch.tensor(0.0 if name == "local_mean" else FIRST_LOGVAR)

    def sample(self, count: int) -> Tensor:
        mean, variance = self._log_moments()
        return (mean + variance.sqrt() * _noise(count, mean)).exp()

    def mean(self) -> Tensor:
        mean, variance = self._log_moments()
        return (mean + variance / 2).exp()

    def variance(self) -> Tensor:
        mean, variance = self._log_moments()
        return torch.expm1(variance) * (2 * mean + variance).exp()

    def log_alpha(self) -> Tensor:
        mean, variance = self._log_moments()
        return variance - mean

    def kl(self) -> Tensor:
        """KL of the four log-normal posteriors, exact."""
        total = torch.zeros(()).to(self.global_mean)
        for mean, logvar, scale in (
            (self.global_mean, self.global_logvar, self.tau0**2),
            (self.local_mean, self.local_logvar, 1.0),
        ):
            total = total + kl_gamma(mean[0], logvar[0], scale).sum()
            total = total + kl_inverse_gamma(mean[1], logvar[1]).sum()
        return total

    @torch.no_grad()
    def fade(self, groups: Tensor) -> None:
        self.local_mean[:, groups] = -FADED

    def _log_moments(self) -> tuple[Tensor, Tensor]:
        """μ and σ² (G,) of log z."""
        mean = self.global_mean.sum(0) + self.local_mean.sum(0)
        variance = self.global_logvar.exp().sum(0) + self.local_logvar.exp().sum(0)
        return mean / 2, variance / 4


def kl_gamma(mean: Tensor, logvar: Tensor, scale: float) -> Tensor:
    """KL(LN(mean, e^logvar) ‖ Gamma(½, scale)), element by element."""
    entropy = (mean + logvar + 1 + math.log(2)) / 2
    return math.log(scale) / 2 + (mean + logvar.exp() / 2).exp() / scale - entropy


def kl_inverse_gamma(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(LN(mean, e^logvar) ‖ InvGamma(½, 1)), element by element."""
    return kl_gamma(-mean, logvar, 1.0)


def _noise(count: int, like: Tensor) -> Tensor:
    return torch.randn(count, len(like), device=like.device, dtype=like.dtype)


PRIORS: dict[str, type[NormalJeffreys] | type[Horseshoe]] = {
    "gnj": NormalJeffreys,
    "ghs": Horseshoe,
}
