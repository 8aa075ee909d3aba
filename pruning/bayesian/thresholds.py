"""From which value on a group is superfluous: the gap between the two piles of a section.

The values are log α, or the negative log-mode of a horseshoe prior: the larger, the more
superfluous. A group is dropped where its value is at least the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from yolo.cfg import Section
from yolo.errors import PlanError

DISTANCE = 4.0  # of the means of two piles; a stray value must be twice as far
SIGMAS = 4.5  # of a pile, that the means are apart
EMPTY = 0.5  # of the smaller pile's count, that the middle third may hold at most

Values = NDArray[np.float64]
Wanted = Mapping[int, "float | Literal['auto']"]


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
    their means are at least 4·(1 + 1/m) apart, m values being in the smaller pile, and at least
    4.5 σ of a pile, and if the middle third of the way from one mean to the other holds at most
    m/2 values. The threshold is the middle of the widest gap between neighbours that reaches into
    that third; it never drops all groups. Values must be finite, else ValueError is raised.

    The split is that of Kittler and Illingworth (Minimum Error Thresholding, 1986) with one
    variance for both: Otsu's, but it finds piles of 1 % of the values, too. Why these numbers: 4 in
    log α is a factor of 7 in the noise of a group over its signal, and piles of trained LeNets are
    8 to 18 apart, while what was one pile never fell into parts more than 3.5 apart. Halves of a
    normal distribution are 2.7 of their σ apart, those of a uniform one 3.5. A tail that is cut off
    a skewed distribution has more values in the middle third than in itself; a stray value in
    small samples hasn't, hence 1 + 1/m. Simulated from 10 to 1000 values, normal, uniform,
    exponential and log-normal (0.5) piles of standard deviation 1 are taken for two in 1 % at
    most; of piles 8 apart with σ up to 1, two or more values and 5 % of all at least, 97 % are
    found, 99 % from six values on. Wider single piles with a long tail are taken for two more often.

    One or two values are one pile; of three or four, two piles are as hard to see as any stray
    value: 8 apart.
    """
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")
    ordered = np.sort(values)
    split = _split(ordered)
    if split is None:
        return Threshold(math.inf, "one pile: kept")
    low, high = ordered[:split].mean(), ordered[split:].mean()
    third = (high - low) / 3
    middle = (ordered > low + third) & (ordered < high - third)
    smaller = min(split, len(ordered) - split)
    if third * 3 < DISTANCE * (1 + 1 / smaller) or middle.sum() > EMPTY * smaller:
        return Threshold(math.inf, "one pile: kept")
    below, above = ordered[:-1], ordered[1:]
    gaps = np.where((above > low + third) & (below < high - third), above - below, 0)
    widest = int(gaps.argmax())
    value = float(below[widest] + above[widest]) / 2
    return Threshold(value, f"gap of {gaps[widest]:.1f} between two piles")


def parse(text: str, sections: Mapping[int, Section]) -> Wanted:
    """What is asked for each section: `auto`, one number for all, or a list, one for each.

    Items of the list may be `auto`, too, and `inf` keeps all. Raises PlanError for anything else.
    """
    items = [item.strip() for item in text.split(",")]
    if len(items) == 1:
        items *= len(sections)
    if len(items) != len(sections):
        names = ", ".join(f"{index} {section.type}" for index, section in sections.items())
        raise PlanError(
            f"thresholds {text}: expected one for all or {len(sections)}, not {len(items)}: "
            f"one for each of {names}"
        )
    return {index: _number(item) for index, item in zip(sections, items, strict=True)}


def choose(values: Mapping[int, Values], wanted: Wanted) -> dict[int, Threshold]:
    """The threshold of every section with values, from what is asked for it."""
    found = {}
    for index, own in values.items():
        value = wanted[index]
        found[index] = auto(own) if value == "auto" else Threshold(value, f"given: {value:g}")
    return found


def _split(ordered: Values) -> int | None:
    """How many ascending values the lower pile has; None where they aren't 4.5 σ apart.

    It makes log σ + H largest likelihood: σ² is the variance in the piles, H the entropy of their
    shares.
    """
    count = len(ordered)
    if count < 3:
        return None
    centred = ordered - ordered.mean()
    lower = np.arange(1, count)
    share = lower / count
    distance = -np.cumsum(centred)[:-1] / (lower * (1 - share))
    within = np.square(centred).mean() - share * (1 - share) * np.square(distance)
    within = np.maximum(within, np.finfo(float).tiny)
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    best = int((np.log(within) / 2 + entropy).argmin())
    variance = within[best] * count / (count - 2)
    apart = distance[best] >= SIGMAS * math.sqrt(variance)
    return best + 1 if apart else None


def _number(text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > -math.inf:
        raise PlanError(f"thresholds: {text!r} is no number; expected auto, a number or inf")
    return value
