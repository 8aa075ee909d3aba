"""How many bits the weights of a Bayesian network need: reduced precision and compression rates.

Louizos, Ullrich, Welling: Bayesian Compression for Deep Learning (NIPS 2017, arXiv 1705.08665),
as its authors compute it in KarenUllrich/Tutorial_BayesianCompressionForDL, compression.py; but
the exponents, see `exponent_bits`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from yolo.errors import PlanError
from yolo.tables import table

FULL = 32  # bits of a number in a .weights file
MOST_SIGNIFICAND = 23  # bits of a 32-bit float's significand


@dataclass(frozen=True, eq=False)
class Posterior:
    """The weights of one section that are left, and how many numbers it had.

    `mean` and `variance` have the shape of the weights without the rows and columns that are all
    zero, see `compacted`. `before` counts the weights of the whole section; `extra_before` and
    `extra_after` its biases and BN numbers.
    """

    index: int
    section_type: str
    mean: Tensor
    variance: Tensor
    before: int
    extra_before: int
    extra_after: int


@dataclass(frozen=True)
class LayerBits:
    """Bits of one section: `bits` for each of its `after` weights, or `coded` for all of them.

    `significand` bits are part of `bits`: the weights are rounded to them.
    """

    index: int
    section: str
    before: int
    after: int
    extra_before: int
    extra_after: int
    significand: int
    bits: int
    coded: int


@dataclass(frozen=True)
class Rates:
    """How many times smaller: by counting, with reduced precision, and coded as well.

    The papers call them pruning rate, fast prediction and maximum compression. Infinite where
    nothing is left.
    """

    architecture: float
    fast: float
    maximum: float


@dataclass(frozen=True)
class Compression:
    """The compression of a network; `exponent` bits of each weight's bits are the exponent.

    `maximum` takes ideal entropy coding: every section's reduced weights by their own frequencies
    (−Σ log2 p bits, what arithmetic coding reaches), and a table of the values that occur, where
    that takes less than no code. The papers took the coding of Deep Compression (Han, Mao, Dally,
    ICLR 2016): Huffman codes of clustered weights.
    """

    exponent: int
    layers: Sequence[LayerBits]

    @property
    def weights(self) -> Rates:
        """The rates of the weights, as in the papers' tables."""
        return self._rates(0)

    @property
    def parameters(self) -> Rates:
        """The rates with biases and BN counted: 32-bit floats before and after."""
        return self._rates(1)

    def _rates(self, extra: int) -> Rates:
        before = sum(layer.before + extra * layer.extra_before for layer in self.layers)
        others = extra * sum(layer.extra_after for layer in self.layers)
        after = sum(layer.after for layer in self.layers) + others
        plain = sum(layer.after * layer.bits for layer in self.layers) + FULL * others
        coded = sum(layer.coded for layer in self.layers) + FULL * others
        return Rates(
            _times(before, after), _times(FULL * before, plain), _times(FULL * before, coded)
        )

    def to_json(self) -> dict[str, object]:
        """Rates are None where nothing is left."""
        rates = {"weights": self.weights, "parameters": self.parameters}
        return {
            "exponent_bits": self.exponent,
            "layers": [asdict(layer) for layer in self.layers],
            "rates": {
                name: {
                    kind: value if math.isfinite(value) else None
                    for kind, value in asdict(numbers).items()
                }
                for name, numbers in rates.items()
            },
        }

    def table(self) -> str:
        """The bits of every section and the rates, as a person reads them."""
        header = ["index", "section", "weights", "left", "", "bits", "bits when coded"]
        rows = [header, *map(_row, self.layers)]
        title = "weights, and the bits that one of them needs"
        return "\n".join([table(rows, title, numbers=(0, 2, 3, 4, 5, 6)), self._rate_table()])

    def _rate_table(self) -> str:
        rows = [["times smaller", "weights", "with biases and BN"]]
        for name, kind in (
            ("architecture", "architecture"),
            ("with reduced precision (fast prediction)", "fast"),
            ("with entropy coding, too (maximum)", "maximum"),
        ):
            pair = (getattr(rates, kind) for rates in (self.weights, self.parameters))
            rows.append([name, *(f"{value:.1f}" for value in pair)])
        return table(rows, "compression", numbers=(1, 2))


def compacted(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Without the outputs and the inputs whose means are all exactly 0.

    (O, I) or (O, I, k, k) → (O', I') or (O', I', k, k)
    """
    used = mean != 0
    outputs = used.flatten(1).any(1)
    inputs = used.transpose(0, 1).flatten(1).any(1)
    return mean[outputs][:, inputs], variance[outputs][:, inputs]


def significand_bits(variance: Tensor) -> int:
    """Bits of the significand for weights of these variances, from 0 to 23.

    A weight needs as many as there are t in 1…23 with 2·variance < 2^−t; the section takes the
    mean of that, rounded up.
    """
    if not variance.numel():
        return 0
    # 2·variance = f·2^e with f in [½, 1): it is below 2^−t exactly for t ≤ −e
    doubled = (variance.detach() * 2).clamp(min=2.0 ** -(MOST_SIGNIFICAND + 1))
    needed = (-torch.frexp(doubled).exponent).clamp(0, MOST_SIGNIFICAND)
    return math.ceil(int(needed.sum()) / variance.numel())


def reduced(weights: Tensor, bits: int) -> Tensor:
    """The weights rounded to multiples of δ = 2^−bits: ⌊w/δ + ½⌋·δ"""
    return (_steps(weights, bits) * 2.0**-bits).to(weights.dtype)


def exponent_bits(weights: Iterable[Tensor]) -> int:
    """Bits for the exponents of all these reduced weights, and for 0.

    As many as number the exponents ⌊log2 |w|⌋ from the smallest to the largest that occurs, and
    one code more, for 0. The published ⌈log2(log2(M) + 1) + 1⌉ looks at the largest weight M alone:
    small weights would have no exponent, it is not a number for M ≤ ½, and for M = 0.6 it is 0.
    Weights of 2 and more would need more bits in the significand, too; these are not counted.
    """
    exponents: list[int] = []
    for tensor in weights:
        size = tensor.detach().abs()
        size = size[size > 0]
        if size.numel():
            exponents += (math.frexp(float(extreme))[1] for extreme in size.aminmax())
    return (max(exponents) - min(exponents) + 1).bit_length() if exponents else 0


def coded_bits(counts: Tensor, bits: int) -> int:
    """Bits of an ideal entropy code and its table, for values that occur so often each: (values,)

    A number takes −log2 of its value's share; every value is stored once, in `bits` bits.
    """
    code = (counts * (counts.sum() / counts).log2()).sum()
    return math.ceil(float(code)) + len(counts) * bits


def histogram(weights: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """The values that occur among the weights reduced to `bits`, and how often each does.

    Both (values,) in float64.
    """
    steps = _steps(weights, bits).long().flatten()
    if not steps.numel():
        return torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    least, most = steps.aminmax()
    # counting needs no sorting, but room for every number in between
    if int(most - least) <= 4 * steps.numel() + 2**16:
        counts = torch.bincount(steps - least)
        values = counts.nonzero().flatten()
        values, counts = values + least, counts[values]
    else:
        values, counts = steps.unique(return_counts=True)
    return values * 2.0**-bits, counts.double()


def compression(posteriors: Sequence[Posterior]) -> Compression:
    """The bits that each section needs; raises PlanError for numbers that are no posterior."""
    for posterior in posteriors:
        _check(posterior)
    significands = [significand_bits(posterior.variance) for posterior in posteriors]
    histograms = [histogram(p.mean, bits) for p, bits in zip(posteriors, significands, strict=True)]
    exponent = exponent_bits([values for values, _ in histograms])
    layers = []
    for posterior, significand, (_, counts) in zip(
        posteriors, significands, histograms, strict=True
    ):
        after = posterior.mean.numel()
        bits = 1 + exponent + significand if after else 0
        layers.append(
            LayerBits(
                index=posterior.index,
                section=posterior.section_type,
                before=posterior.before,
                after=after,
                extra_before=posterior.extra_before,
                extra_after=posterior.extra_after,
                significand=significand,
                bits=bits,
                # few weights aren't worth a table of their values
                coded=min(coded_bits(counts, bits), after * bits),
            )
        )
    return Compression(exponent, tuple(layers))


def _steps(weights: Tensor, bits: int) -> Tensor:
    """Whole multiples of 2^−bits, in float64: in float32 adding ½ rounds from 2^23 on."""
    return (weights.detach().double() * 2.0**bits + 0.5).floor()


def _check(posterior: Posterior) -> None:
    where = f"section {posterior.index} [{posterior.section_type}]"
    if not posterior.mean.numel():
        return
    # the extremes of numbers with a NaN among them are NaN
    if not all(map(torch.isfinite, posterior.mean.aminmax())):
        raise PlanError(f"{where}: the means of its weights aren't finite")
    least, most = posterior.variance.aminmax()
    if not (least.isfinite() and most.isfinite()):
        raise PlanError(f"{where}: the variances of its weights aren't finite")
    if least < 0:
        raise PlanError(f"{where}: a variance of its weights is negative")


def _times(before: int, after: int) -> float:
    if not after:
        return math.inf
    return before / after


def _row(layer: LayerBits) -> list[str]:
    share = f"{layer.after / max(layer.before, 1):.1%}"
    coded = f"{layer.coded / layer.after:.1f}" if layer.after else "-"
    counts = f"{layer.before:,}", f"{layer.after:,}"
    return [str(layer.index), layer.section, *counts, share, str(layer.bits), coded]
