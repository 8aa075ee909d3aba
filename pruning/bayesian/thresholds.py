"""Thresholds from which on groups are superfluous: the gap between a section's two piles.

The values are log α, or the negative log-mode of a horseshoe prior: the larger, the more
superfluous. A group is dropped where its value is at least the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruning.spec import Thresholds
from yolo.cfg import Section
from yolo.errors import PlanError

DISTANCE = 4.0  # of the means of two piles of log α; a stray value must be twice as far
SIGMAS = 4.5  # of a pile, that the means are apart
EMPTY = 0.5  # of the smaller pile's count, that the middle third may hold at most
BINS, WINDOW = 20, 3  # of the histogram in which a valley is looked for, and bins of a window
DEPTH = 2.5  # by how much the root of a valley's count is smaller than those of both summits

Values = NDArray[np.float64]
Wanted = Mapping[int, float | None]  # section → its threshold, None for auto


@dataclass(frozen=True)
class Threshold:
    """Groups from `value` on are dropped, none where it is infinite; `note` says where it is from.

    `note` is for a person, such as "gap of 3.1 between two piles".
    """

    value: float
    note: str


def auto(values: Values) -> Threshold:
    """The threshold in the widest gap between the two piles of the values (G,), if there are two.

    The piles are the two normal distributions of equal width that fit best. They count as two if
    their means are at least 4·(1 + 1/m) apart, m values being in the smaller pile, and at
    least 4.5 σ of a pile, and if the middle third of the way from one mean to the other holds at
    most m/2 values. The threshold is the middle of the widest gap between neighbours that reaches
    into that third; it never drops all groups. Raises ValueError for values that aren't finite.

    Where that finds one pile, because one of two is wide, a valley counts, too: three of the 20
    bins of a histogram whose count has a root that is smaller by 2.5 than those of three bins on
    either side, which are at least 4 apart. (The root of a Poisson count has the standard deviation
    ½ whatever its mean.) Of the single piles below 1 % have such a valley.

    The split is that of Kittler and Illingworth (Minimum Error Thresholding, 1986) with one
    variance for both: Otsu's (1979), but it finds piles of 1 % of the values, too. Where the
    numbers come from: 4 in log α is a factor of 7 in a group's noise over its signal. The piles of
    LeNets trained on MNIST are 8 to 18 apart and 5 σ or more, the best parts of their single piles
    less than 4 apart. Halves of a normal distribution are 2.7 of their σ apart, those of a uniform
    one 3.5. A tail cut off a skewed distribution has fewer values than the middle third before it;
    but for stray values of a small sample, hence 1 + 1/m. Simulated from 10 to 1000 values: normal,
    uniform, exponential and log-normal (shape ½) piles of standard deviation 1 are taken for two in
    1 % of the cases at most. Of piles 8 apart with σ up to 1 and at least 5 % and two of the values
    97 % are found, 99 % from six values on. Long tails are taken for a second pile more often where
    they are wider: exponential ones of standard deviation 2 in up to 13 %.

    One or two values are one pile. Of three or four, two piles are hard to tell from stray values,
    and so they are as far apart as that takes: 6 to 8. The log-modes of a horseshoe lie closer than
    log α. They take the same distance, as dropping groups of a LeNet that were 2.3 apart still cost
    two points of accuracy.
    """
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    ordered = np.sort(values)
    between = _middle_third(ordered) or _valley(ordered)
    if between is None:
        return Threshold(math.inf, "one pile: kept")
    below, above = ordered[:-1], ordered[1:]
    gaps = np.where((above > between[0]) & (below < between[1]), above - below, 0)
    widest = int(gaps.argmax())
    value = float(below[widest] + above[widest]) / 2
    return Threshold(value, f"gap of {gaps[widest]:.1f} between two piles")


def for_sections(thresholds: Thresholds, sections: Mapping[int, Section]) -> Wanted:
    """Thresholds by section: one for all, or one for each; raises PlanError."""
    values = thresholds.values
    if len(values) == 1:
        values *= len(sections)
    if len(values) != len(sections):
        names = ", ".join(f"{index} {section.type}" for index, section in sections.items())
        raise PlanError(
            f"thresholds {thresholds}: expected one for all or {len(sections)}, not "
            f"{len(values)}: one for each of {names}"
        )
    return dict(zip(sections, values, strict=True))


def choose(values: Mapping[int, Values], wanted: Wanted) -> dict[int, Threshold]:
    """The threshold of every section with values, from what is asked for it."""
    thresholds = {}
    for index, own in values.items():
        value = wanted[index]
        thresholds[index] = auto(own) if value is None else Threshold(value, f"given: {value:g}")
    return thresholds


def _middle_third(ordered: Values) -> tuple[float, float] | None:
    """Between the means of the two piles of ascending values; None for one pile."""
    count = len(ordered)
    if count < 3:
        return None
    split, sigma = _split(ordered)
    low, high = float(ordered[:split].mean()), float(ordered[split:].mean())
    apart, smaller = high - low, min(split, count - split)
    if apart < DISTANCE * (1 + 1 / smaller) or apart < SIGMAS * sigma:
        return None
    first, last = low + apart / 3, high - apart / 3
    between = np.count_nonzero((ordered > first) & (ordered < last))
    return (first, last) if between <= EMPTY * smaller else None


def _valley(ordered: Values) -> tuple[float, float] | None:
    """The ends of the deepest valley of a histogram; None where it isn't deep enough."""
    if ordered[-1] - ordered[0] < DISTANCE:
        return None
    counts, edges = np.histogram(ordered, BINS)
    roots = np.sqrt(np.convolve(counts, np.ones(WINDOW), "valid"))
    best, ends = DEPTH, None
    for middle in range(WINDOW, len(roots) - WINDOW):
        left = int(roots[: middle - WINDOW + 1].argmax())
        right = middle + WINDOW + int(roots[middle + WINDOW :].argmax())
        depth = min(roots[left], roots[right]) - roots[middle]
        if depth >= best and edges[right] - edges[left] >= DISTANCE:
            best, ends = depth, (float(edges[middle]), float(edges[middle + WINDOW]))
    return ends


def _split(ordered: Values) -> tuple[int, float]:
    """How many of 3 or more ascending values the lower pile has, and the σ of both piles.

    It makes log σ + H least: the negative log-likelihood of a value, but for a constant, where H is
    the entropy of the piles' shares.
    """
    count = len(ordered)
    centred = ordered - ordered.mean()
    lower = np.arange(1, count)
    share = lower / count
    distance = -np.cumsum(centred)[:-1] / (lower * (1 - share))
    variance = np.square(centred).mean() - share * (1 - share) * np.square(distance)
    variance = np.maximum(variance, np.finfo(float).tiny)
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    best = int((np.log(variance) / 2 + entropy).argmin())
    return best + 1, math.sqrt(variance[best] * count / (count - 2))
