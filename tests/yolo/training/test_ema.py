"""The moving average of a network: its warm-up, and what it ends with."""

from __future__ import annotations

import pytest
import torch
from networks import build

from yolo.network import Network
from yolo.training.ema import Ema

TEXT = """[net]
width=8
height=8
channels=3
[convolutional]
batch_normalize=1
filters=4
size=1
stride=1
activation=linear
[softmax]
"""


def filled(value: float) -> Network:
    network = build(TEXT)
    for tensors in network.state().values():
        for tensor in tensors.values():
            tensor.fill_(value)
    return network


def averages(decay: float, steps: int) -> list[float]:
    """Of a network that is 1 from the first step on, and began as 0."""
    ema, network = Ema(filled(0), decay), filled(1)
    values = []
    for _ in range(steps):
        ema.update(network)
        (value,) = {float(v) for t in ema.network.state()[0].values() for v in t.flatten()}
        values.append(value)
    return values


def test_early_steps_count_more() -> None:
    """tensorflow's ExponentialMovingAverage: decay min(decay, (1 + t) / (10 + t))"""
    left, expected = 1.0, []
    for step in range(1, 41):
        left *= min(0.8, (1 + step) / (10 + step))
        expected.append(1 - left)
    assert averages(0.8, 40) == pytest.approx(expected, rel=1e-5)
    assert expected[0] == pytest.approx(1 - 2 / 11)


@pytest.mark.parametrize(("decay", "first"), [(0.1, 0.9), (0.5, 9 / 11), (0.999, 9 / 11)])
def test_a_small_decay_needs_no_warm_up(decay: float, first: float) -> None:
    assert averages(decay, 1) == pytest.approx([first], rel=1e-6)


def test_no_decay_follows_exactly() -> None:
    assert averages(0, 2) == [1, 1]


def test_the_averaged_network_is_another() -> None:
    network = filled(0)
    ema = Ema(network, 0.5)
    with torch.no_grad():
        network.state()[0]["weights"].fill_(3)
    assert (ema.network.state()[0]["weights"] == 0).all()
