"""Bits and rates: against loops, published numbers, and bounds that codes can't beat."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruning.bayesian.precision import (
    Posterior,
    coded_bits,
    compacted,
    compression,
    exponent_bits,
    histogram,
    reduced,
    significand_bits,
)
from yolo.errors import PlanError

CONV, FULLY = "bayesian_convolutional", "bayesian_connected"
floats = st.floats(-1e4, 1e4, width=32)
variances = st.one_of(
    st.floats(0, 4, width=32),
    st.integers(-40, 2).map(lambda power: 2.0**power),  # the edges
)
tensors = st.lists(floats, max_size=40).map(torch.tensor)


def posterior(index, shape, before=None, extra=(0, 0), seed=0, scale=0.3):
    """Random weights with variances from 1e-8 to 1."""
    random = torch.Generator().manual_seed(seed + index)
    mean = torch.randn(shape, generator=random) * scale
    variance = 10 ** (-8 * torch.rand(shape, generator=random))
    section = CONV if len(shape) == 4 else FULLY
    return Posterior(index, section, mean, variance, before or mean.numel(), *extra)


def spread(values):
    """A posterior of these means."""
    mean = torch.tensor([values])
    return Posterior(0, FULLY, mean, torch.full_like(mean, 1e-3), mean.numel(), 0, 0)


@given(st.lists(variances, min_size=1, max_size=20))
def test_significand_bits_are_those_of_the_definition(values):
    counts = [sum(2 * value < 2**-t for t in range(1, 24)) for value in values]
    expected = math.ceil(sum(counts) / len(counts))
    assert significand_bits(torch.tensor(values)) == expected
    assert significand_bits(torch.tensor(values, dtype=torch.float64).reshape(-1, 1)) == expected


@pytest.mark.parametrize(
    ("variance", "bits"),
    [(0, 23), (1e-30, 23), (2**-24, 22), (2**-25, 23), (1 / 8, 1), (0.1, 2), (1 / 4, 0), (5, 0)],
)
def test_significand_bits_of_one_weight(variance, bits):
    assert significand_bits(torch.tensor([variance])) == bits


def test_no_weights_need_no_bits():
    empty = torch.zeros(0, 3, 1, 1)
    assert significand_bits(empty) == 0
    assert reduced(empty, 5).shape == empty.shape
    assert exponent_bits([empty, torch.zeros(4)]) == 0
    assert coded_bits(histogram(empty, 5)[1], 9) == 0


@given(tensors, st.integers(0, 23))
def test_reduced_weights_are_multiples_and_near(weights, bits):
    rounded, step = reduced(weights, bits), 2.0**-bits
    assert rounded.dtype == weights.dtype
    steps = rounded.double() / step
    assert torch.equal(steps, steps.round())
    assert ((rounded.double() - weights.double()).abs() <= step / 2).all()
    expected = np.floor(weights.double().numpy() / step + 0.5) * step
    np.testing.assert_array_equal(rounded.double().numpy(), expected)
    assert torch.equal(reduced(rounded, bits), rounded)


@given(tensors, st.integers(0, 23))
def test_the_histogram_counts_the_reduced_weights(weights, bits):
    values, counts = histogram(weights, bits)
    expected = np.unique(reduced(weights, bits).numpy(), return_counts=True)
    np.testing.assert_array_equal(values.numpy(), expected[0])
    np.testing.assert_array_equal(counts.numpy(), expected[1])


@given(st.lists(tensors, min_size=1, max_size=3))
def test_exponent_bits_number_every_exponent_and_zero(layers):
    exponents = {
        math.floor(math.log2(abs(w))) for layer in layers for w in layer.double().tolist() if w
    }
    codes = max(exponents) - min(exponents) + 2 if exponents else 1
    assert 2 ** exponent_bits(layers) >= codes
    assert exponent_bits(layers) == math.ceil(math.log2(codes))


@pytest.mark.parametrize(
    ("largest", "smallest", "bits"),
    [(0.5, 0.5, 1), (0.6, 0.25, 2), (0.3, 0.01, 3), (0.9, 2**-7, 3), (0.9, 2**-8, 4), (3, 1, 2)],
)
def test_exponent_bits_where_the_published_rule_fails(largest, smallest, bits):
    """It is NaN up to ½, 0 at 0.6, and knows of no small weights."""
    assert exponent_bits([torch.tensor([0, -largest]), torch.tensor([smallest])]) == bits


@given(tensors, st.integers(0, 12), st.integers(1, 32))
def test_coded_bits_are_the_entropy_and_a_table(weights, bits, width):
    _, counts = histogram(weights, bits)
    entropy = scipy.stats.entropy(counts.numpy(), base=2) * len(weights) if len(weights) else 0
    table = len(counts) * width
    assert coded_bits(counts, width) - table == pytest.approx(entropy, abs=1.01)
    if len(counts):
        assert coded_bits(counts, width) - table <= len(weights) * math.log2(len(counts)) + 1


def test_coded_bits_of_a_code_that_is_known():
    """Half of the numbers take 1 bit, a quarter 2, two eighths 3."""
    weights = torch.tensor([0.0, 0, 0, 0, 0.5, 0.5, -0.5, 1])
    assert coded_bits(histogram(weights, 1)[1], 5) == 4 * 1 + 2 * 2 + 2 * 3 + 4 * 5


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3, 3), (4, 6, 1, 1)])
@pytest.mark.parametrize("seed", range(4))
def test_compacted_drops_what_is_zero_in_whole(shape, seed):
    random = np.random.default_rng(seed)
    mean = random.normal(size=shape) * (random.random(shape) < 0.5)
    mean[random.random(shape[0]) < 0.4] = 0
    mean[:, random.random(shape[1]) < 0.4] = 0
    rows = [o for o in range(shape[0]) if mean[o].any()]
    columns = [i for i in range(shape[1]) if mean[:, i].any()]
    left, spread = compacted(torch.from_numpy(mean), torch.from_numpy(mean + 1))
    np.testing.assert_array_equal(left, mean[np.ix_(rows, columns)])
    np.testing.assert_array_equal(spread, left + 1)


def test_compacted_leaves_nothing_of_nothing():
    left, spread = compacted(torch.zeros(3, 4, 3, 3), torch.ones(3, 4, 3, 3))
    assert left.shape == spread.shape == (0, 0, 3, 3)


def reference(posteriors):
    """The algorithm of the tutorial, weight by weight, with sound exponents and entropy coding."""
    sections, exponents = [], set()
    for p in posteriors:
        means, spreads = p.mean.flatten().tolist(), p.variance.flatten().tolist()
        needed = [sum(2 * v < 2**-t for t in range(1, 24)) for v in spreads]
        significand = math.ceil(sum(needed) / len(needed))
        weights = [math.floor(w * 2**significand + 0.5) / 2**significand for w in means]
        exponents |= {math.frexp(w)[1] for w in weights if w}
        sections.append((significand, weights))
    exponent = math.ceil(math.log2(max(exponents) - min(exponents) + 2))
    plain = coded = 0
    for significand, weights in sections:
        bits = 1 + exponent + significand
        plain += bits * len(weights)
        counts = {value: weights.count(value) for value in weights}
        code = -sum(c * math.log2(c / len(weights)) for c in counts.values())
        coded += min(math.ceil(code) + bits * len(counts), bits * len(weights))
    return plain, coded


@pytest.mark.parametrize("seed", range(3))
def test_rates_against_loops(seed):
    posteriors = [
        posterior(0, (6, 3, 3, 3), 1000, (24, 12), seed),
        posterior(2, (4, 6, 1, 1), 500, (4, 4), seed, scale=2.0),
        posterior(5, (10, 40), 4000, (10, 10), seed, scale=0.01),
    ]
    result = compression(posteriors)
    plain, coded = reference(posteriors)
    left = 6 * 3 * 9 + 24 + 400
    assert result.weights.architecture == 5500 / left
    assert result.weights.fast == 32 * 5500 / plain
    assert result.weights.maximum == 32 * 5500 / coded
    assert result.parameters.architecture == 5538 / (left + 26)
    assert result.parameters.fast == 32 * 5538 / (plain + 32 * 26)
    assert result.parameters.maximum == 32 * 5538 / (coded + 32 * 26)
    assert [layer.after for layer in result.layers] == [162, 24, 400]
    assert all(layer.bits == 1 + result.exponent + layer.significand for layer in result.layers)


def counted(before, after):
    """What is left when only the counts of weights are of interest."""
    return [
        Posterior(i, FULLY, torch.ones(left, 1), torch.ones(left, 1), whole, 0, 0)
        for i, (whole, left) in enumerate(zip(before, after, strict=True))
    ]


def chain(widths, area):
    return [inputs * outputs * area for inputs, outputs in pairwise(widths)]


def test_the_published_vgg19():
    """62,64 · 128,127 · … channels left of VGG19 for CIFAR-10: 20.02 M → 2.03 M, 9.85 times."""
    whole = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]
    left = [3, 62, 64, 128, 127, 244, 167, 92, 90, 119, 94, 95, 123, 123, 127, 139, 79]
    before, after = [*chain(whole, 9), 512 * 10], [*chain(left, 9), 79 * 10]
    result = compression(counted(before, after))
    assert sum(before) / 1e6 == pytest.approx(20.02, abs=0.005)
    assert sum(after) / 1e6 == pytest.approx(2.03, abs=0.005)
    assert result.weights.architecture == pytest.approx(9.85, abs=0.005)


@pytest.mark.parametrize("left", [(278, 98, 13), (311, 86, 14)])
def test_the_published_lenet(left):
    """A pruning rate of 9 for both priors."""
    result = compression(counted(chain((784, 300, 100, 10), 1), chain((*left, 10), 1)))
    assert int(result.weights.architecture) == 9


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3))
def test_whole_networks_are_smaller_only_by_their_bits(shapes):
    result = compression([posterior(i, shape, extra=(2, 2)) for i, shape in enumerate(shapes)])
    assert result.weights.architecture == result.parameters.architecture == 1
    most = max(layer.bits for layer in result.layers)
    least = min(layer.bits for layer in result.layers)
    assert 32 / most <= result.weights.fast <= 32 / least
    assert min(32 / most, 1) <= result.parameters.fast <= max(32 / least, 1)


@given(st.lists(st.floats(-1.75, 1.75), min_size=1, max_size=60))
def test_bits_can_hold_the_reduced_weights(values):
    """Sign, exponent code and significand bits give the number back, as long as |w| < 2."""
    result = compression([spread(values)])
    weights = reduced(torch.tensor(values), result.layers[0].significand).tolist()
    smallest = min((math.frexp(w)[1] for w in weights if w), default=0)
    for weight in weights:
        fraction, exponent = math.frexp(abs(weight))
        assert not weight or exponent - smallest + 1 < 2**result.exponent
        if weight and exponent <= 1:
            assert (2 * fraction * 2 ** result.layers[0].significand) % 1 == 0


def test_coding_pays_where_values_repeat():
    result = compression([spread([0.25] * 900 + [0.0] * 100)])
    assert result.weights.maximum > 10 * result.weights.fast > 10


def test_sections_without_weights():
    gone = Posterior(3, CONV, torch.zeros(0, 4, 3, 3), torch.zeros(0, 4, 3, 3), 90, 8, 0)
    silent = Posterior(4, FULLY, torch.zeros(2, 3), torch.zeros(2, 3), 60, 2, 2)
    result = compression([gone, silent, posterior(5, (2, 2))])
    first, second, _ = result.layers
    assert (first.after, first.significand, first.bits, first.coded) == (0, 0, 0, 0)
    assert second.significand == 23
    assert second.coded == second.bits  # of the table: the code of one value takes no bits
    assert "|    0 |   0.0% |" in result.table()
    for nothing in (compression([gone]), compression([])):
        assert nothing.weights.fast == nothing.parameters.maximum == math.inf
        rates = json.loads(json.dumps(nothing.to_json(), allow_nan=False))["rates"]
        assert rates["weights"]["architecture"] is None
        assert "inf" in nothing.table()


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("variance", math.nan, "variances of its weights aren't finite"),
        ("variance", math.inf, "variances of its weights aren't finite"),
        ("variance", -1e-9, "variance of its weights is negative"),
        ("mean", math.nan, "means of its weights aren't finite"),
        ("mean", -math.inf, "means of its weights aren't finite"),
    ],
)
def test_numbers_that_are_no_posterior(name, wrong, message):
    good = posterior(7, (3, 2, 3, 3))
    tensor = getattr(good, name).clone()
    tensor[1, 1, 2, 0] = wrong
    bad = replace(good, **{name: tensor})
    with pytest.raises(PlanError, match=rf"^section 7 \[bayesian_convolutional\]: .*{message}"):
        compression([good, bad])


def test_json_and_tables_say_the_same():
    result = compression(
        [posterior(0, (6, 3, 3, 3), 1000, (24, 12)), posterior(9, (10, 40), 4000, (10, 10))]
    )
    data = json.loads(json.dumps(result.to_json()))
    assert data["exponent_bits"] == result.exponent
    assert [layer["after"] for layer in data["layers"]] == [162, 400]
    assert data["rates"]["weights"]["maximum"] == result.weights.maximum
    assert data["rates"]["parameters"]["fast"] == result.parameters.fast
    table = result.table()
    for number in (f"{result.weights.fast:.1f}", f"{result.parameters.architecture:.1f}", "1,000"):
        assert number in table
    for word in (CONV, FULLY, "fast prediction", "maximum", "with biases and BN"):
        assert word in table
