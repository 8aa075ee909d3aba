"""Cuts of whole blocks, of the digits' network and others."""

from __future__ import annotations

import pytest
import torch
from jobs import Job
from paths import DIGITS
from pruned_files import Model

from pruning.cut.blocks import residual_blocks, silenced
from pruning.measure.costs import Costs
from pruning.proof.verify import relative
from yolo.cfg import Cfg
from yolo.models.weights import load_weights
from yolo.network import Network


def digits(strategy: str, **more: object) -> Job:
    return Model(*map(str, DIGITS)).job(strategy, **more)


def layer(**more: object) -> Job:
    return digits("layer", percent=more.pop("percent", None), **more)


def measures(shortened, folding):
    return Costs(folding.graph).measures()


def silent(network: Network, shortcuts: tuple[int, ...], x: torch.Tensor) -> list[torch.Tensor]:
    """What enters the heads where these branches add nothing."""
    blocks = [b for b in residual_blocks(network) if b.shortcut in shortcuts]
    heads = network.head_inputs
    with torch.no_grad():
        inputs = silenced(network, network.state(), blocks)(x, collect=heads)
    return [inputs[i] for i in heads]


def entering(network: Network, x: torch.Tensor) -> list[torch.Tensor]:
    heads = network.head_inputs
    with torch.no_grad():
        inputs = network(x, collect=heads)
    return [inputs[i] for i in heads]


def differ(outputs: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return relative(dict(enumerate(outputs)), dict(enumerate(expected)))


@pytest.fixture(scope="module")
def network() -> Network:
    network = Network(Cfg.load(DIGITS[0]))
    load_weights(network, DIGITS[1])
    return network
