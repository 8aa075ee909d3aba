"""Thresholds: one pile is kept, two are separated, and what is asked for is understood."""

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.bayesian.thresholds import Threshold, auto, choose, for_sections
from pruning.spec import Thresholds
from yolo.cfg import Cfg
from yolo.errors import PlanError

# standard deviation 1
ONE_PILE = {
    "normal": lambda random, size: random.normal(size=size),
    "uniform": lambda random, size: random.random(size) * math.sqrt(12),
    "tail above": lambda random, size: random.exponential(size=size),
    "tail below": lambda random, size: -random.exponential(size=size),
    "log-normal": lambda random, size: np.exp(random.normal(0, 0.5, size)) / 0.604,
    "mirrored": lambda random, size: -np.exp(random.normal(0, 0.5, size)) / 0.604,
}
# log α of LeNets on MNIST, trained for that many epochs: lowest, highest, counts of 20 bins
LENETS = {
    "300-100, 0, 20 epochs": (
        (-7.56, 10.83),
        (79, 112, 123, 69, 34, 25, 10, 3, 11, 12, 59, 98, 85, 34, 11, 7, 5, 4, 2, 1),
        (-2, 1),
    ),
    "300-100, 1, 20 epochs": (
        (-8.4, 12.97),
        (18, 83, 89, 20, 6, 0, 0, 0, 0, 0, 2, 9, 23, 17, 20, 6, 4, 2, 0, 1),
        (-3, 2),
    ),
    "300-100, 2, 20 epochs": (
        (-8.28, 5.16),
        (3, 20, 34, 25, 10, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 1, 1),
        (-2, 2),
    ),
    "5, 3, 2 epochs": (
        (-8.67, 10.26),
        (391, 27, 13, 4, 3, 2, 0, 1, 0, 1, 0, 0, 0, 0, 3, 0, 1, 4, 2, 48),
        (0, 5),
    ),
    "300-100, 0, 10 epochs": (
        (-8.33, 3.43),
        (54, 103, 116, 91, 48, 41, 47, 87, 96, 52, 24, 8, 9, 1, 2, 0, 3, 1, 0, 1),
        None,
    ),
    "300-100, 1, 1 epoch": (
        (-9.07, -6.92),
        (8, 100, 84, 22, 5, 17, 11, 10, 4, 3, 6, 4, 4, 3, 2, 2, 3, 1, 5, 6),
        None,
    ),
    "5, 2, 2 epochs": (
        (-8.63, -7.51),
        (5, 13, 23, 35, 46, 84, 126, 107, 117, 117, 76, 33, 12, 4, 0, 1, 0, 0, 0, 1),
        None,
    ),
}
SECTIONS = {
    section.index: section
    for section in Cfg(
        b"[net]\n[bayesian_convolutional]\n[maxpool]\n[bayesian_convolutional]\n"
        b"[bayesian_connected]\n[softmax]\n"
    ).layers
    if section.type.startswith("bayesian_")
}


def rule(values):
    """The rule in plain words, or None for one pile."""
    values = sorted(values)
    count = len(values)
    fits = {}
    for split in range(1, count):
        parts = values[:split], values[split:]
        within = sum(len(part) * statistics.pvariance(part) for part in parts) / count
        entropy = -sum(len(part) / count * math.log(len(part) / count) for part in parts)
        fits[split] = math.log(within) / 2 + entropy, within * count / (count - 2)
    return two_normal(values, count, fits) or valley(values)


def two_normal(values, count, fits):
    split = min(fits, key=fits.get)
    low, high = statistics.mean(values[:split]), statistics.mean(values[split:])
    smaller = min(split, count - split)
    first, last = low + (high - low) / 3, high - (high - low) / 3
    if (
        high - low < 4 * (1 + 1 / smaller)
        or high - low < 4.5 * math.sqrt(fits[split][1])
        or sum(first < value < last for value in values) > smaller / 2
    ):
        return None
    return widest_gap(values, first, last)


def widest_gap(values, first, last):
    gaps = [(b - a, (a + b) / 2) for a, b in pairwise(values) if b > first and a < last]
    return max(gaps)[1]


def valley(values):
    """Three bins of twenty between fuller ones on both sides."""
    step = (values[-1] - values[0]) / 20
    edges = np.linspace(values[0], values[-1], 21)
    counts = [sum(a <= v < b for v in values) for a, b in pairwise(edges)]
    counts[-1] += sum(v == edges[-1] for v in values)
    three = {n: sum(counts[n : n + 3]) for n in range(18)}
    valleys = []
    for start in three:
        left = max((n for n in three if n <= start - 3), key=three.get, default=None)
        right = max((n for n in three if n >= start + 3), key=three.get, default=None)
        if left is not None and right is not None and (right - left) * step >= 4:
            depth = math.sqrt(min(three[left], three[right])) - math.sqrt(three[start])
            valleys.append((depth, start))
    depth, start = max(valleys, default=(0, None))
    return widest_gap(values, edges[start], edges[start + 3]) if depth >= 2.5 else None


def piles(random, low, high, sigmas=(1, 1), distance=8):
    """Two piles of so many values each, one around −8."""
    return np.concatenate(
        [random.normal(-8, sigmas[0], low), random.normal(distance - 8, sigmas[1], high)]
    )


@given(
    st.integers(0, 2**32 - 1),
    st.integers(3, 40),
    st.integers(1, 40),
    st.floats(0, 12),
    st.floats(0.1, 2),
    st.floats(0.1, 2),
)
def test_the_rule_step_by_step(seed, low, high, distance, sigma, other):
    values = piles(np.random.default_rng(seed), low, high, (sigma, other), distance)
    assert auto(values).value == pytest.approx(rule(values) or math.inf)


@pytest.mark.parametrize("shape", ONE_PILE)
@pytest.mark.parametrize("groups", [10, 50, 300])
def test_one_pile_is_kept(shape, groups):
    random = np.random.default_rng(groups)
    samples = [ONE_PILE[shape](random, groups) for _ in range(400)]
    thresholds = [auto(values) for values in samples]
    assert sum(threshold.value < math.inf for threshold in thresholds) <= 8
    assert Threshold(math.inf, "one pile: kept") in thresholds


@pytest.mark.parametrize("sigmas", [(0.5, 0.5), (1, 1), (0.5, 1), (1, 0.5)])
@pytest.mark.parametrize(
    ("low", "high"), [(5, 5), (8, 2), (25, 25), (57, 3), (6, 114), (400, 600), (950, 50)]
)
def test_two_piles_are_separated(low, high, sigmas):
    random = np.random.default_rng(low)
    right = 0
    for _ in range(100):
        values = piles(random, low, high, sigmas)
        kept = np.count_nonzero(values < auto(values).value)
        right += abs(kept - low) <= 0.02 * (low + high)
    assert right >= 96


@pytest.mark.parametrize("name", LENETS)
def test_trained_networks(name):
    (lowest, highest), counts, between = LENETS[name]
    edges = np.linspace(lowest, highest, 21)
    values = [
        np.linspace(a, b, count + 2)[1:-1]
        for (a, b), count in zip(pairwise(edges), counts, strict=True)
    ]
    threshold = auto(np.concatenate(values))
    if between is None:
        assert threshold == Threshold(math.inf, "one pile: kept")
    else:
        assert between[0] < threshold.value < between[1]
        assert threshold.note.startswith("gap of ")


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.randoms())
def test_some_group_is_always_kept_and_order_is_nothing(values, random):
    threshold = auto(np.array(values))
    assert min(values) < threshold.value
    assert threshold.value == math.inf or max(values) >= threshold.value
    random.shuffle(values)
    assert auto(np.array(values)) == threshold


@given(st.integers(0, 99), st.floats(-20, 20))
def test_the_threshold_moves_with_the_values(seed, by):
    values = piles(np.random.default_rng(seed), 30, 10)
    assert auto(values + by).value == pytest.approx(auto(values).value + by, abs=1e-9)


@pytest.mark.parametrize("values", [[-9.0], [-9.0, 9.0], [3.0] * 7, [-9.0, -8.9, -8.8, -4.0]])
def test_too_few_to_tell(values):
    assert auto(np.array(values)).value == math.inf


def test_few_but_far_apart():
    assert auto(np.array([-9.0, -8.9, 0.0])) == Threshold(-4.45, "gap of 8.9 between two piles")
    assert auto(np.array([-8.0, -8.0, 0.0, 0.0])).value == -4


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_values_must_be_finite(wrong):
    with pytest.raises(ValueError, match="not finite"):
        auto(np.array([-8, wrong, 0]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", [None, None, None]),
        ("-3", [-3, -3, -3]),
        ("-2.8,-3,-5", [-2.8, -3, -5]),
        (" -2.8, auto ,inf", [-2.8, None, math.inf]),
    ],
)
def test_what_is_asked_for(text, expected):
    assert for_sections(Thresholds.parse(text), SECTIONS) == dict(
        zip((0, 2, 3), expected, strict=True)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "-3,-5",
            "thresholds -3,-5: expected one for all or 3, not 2: one for each of "
            "0 bayesian_convolutional, 2 bayesian_convolutional, 3 bayesian_connected",
        ),
        ("-3,-5,-7,-9", "expected one for all or 3, not 4"),
        ("-3,,-5", "thresholds: '': expected auto, a number or inf"),
        ("", "thresholds: '': expected auto, a number or inf"),
        ("nan", "'nan': expected auto, a number or inf"),
        ("1,2,-inf", "'-inf': expected auto, a number or inf"),
        ("otsu", "'otsu': expected auto, a number or inf"),
    ],
)
def test_what_cannot_be_asked_for(text, message):
    with pytest.raises(PlanError, match=message):
        for_sections(Thresholds.parse(text), SECTIONS)


@pytest.mark.parametrize("text", ["auto", "-3", "-2.8,auto,inf"])
def test_thresholds_are_written_as_they_are_read(text):
    assert str(Thresholds.parse(text)) == text


def test_each_section_gets_what_was_asked():
    two_piles, one_pile = piles(np.random.default_rng(0), 20, 20), np.linspace(-9, -8, 20)
    wanted = for_sections(Thresholds.parse("auto,auto,-8.5"), SECTIONS)
    thresholds = choose({0: two_piles, 2: one_pile, 3: one_pile}, wanted)
    assert thresholds[0] == auto(two_piles)
    assert -8 < thresholds[0].value < 0
    assert thresholds[2] == Threshold(math.inf, "one pile: kept")
    assert thresholds[3] == Threshold(-8.5, "given: -8.5")
