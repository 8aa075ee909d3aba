"""A session cuts in as many ways as one likes: the network that it was given stays as it is."""

from __future__ import annotations

import pytest
import torch
from cfgs import HEAD, conv, net, shortcut
from networks import build, random_input
from specs import spec
from tiny_data import BAYESIAN

from pruning.cut.plan import Plan
from pruning.registry import RECOVERIES
from pruning.session import Cut, Session
from pruning.spec import Amount, Blocks, Percent, Saved, Spec, Targets, Thresholds
from yolo.layers.bayesian import bayesian_layers
from yolo.network import Network, State

BLOCK = conv(6, size=1) + conv(8) + shortcut(-3)
RESIDUAL = net(16, 16) + conv(8) + BLOCK * 2 + conv(12) + HEAD
MACS = Targets.parse("macs=0.7")
CHANNELS = {7: (0, 1, 2)}
SPECS = {
    "percent": Spec("shortcut", Percent(0.4)),
    "targets": Spec("slim", MACS),
    "blocks": Spec("layer", Blocks(1)),
    "blocks and percent": Spec("slim+layer", Blocks(1, Percent(0.3))),
    "blocks and targets": Spec("slim+layer", Blocks(1, MACS)),
    "targets by blocks": Spec("layer", MACS),
    "a plan": Spec("shortcut", Saved(Plan("shortcut", 0.4, CHANNELS))),
    "a plan with blocks": Spec("layer", Saved(Plan("layer", 0.0, CHANNELS, blocks=(3,)))),
}


def snapshot(network: Network) -> State:
    return {i: {n: t.clone() for n, t in ts.items()} for i, ts in network.state().items()}


def check_untouched(network: Network, before: State, cfg: bytes) -> None:
    assert network.cfg.to_bytes() == cfg
    after = network.state()
    assert after.keys() == before.keys()
    for i, tensors in before.items():
        assert after[i].keys() == tensors.keys()
        assert all(torch.equal(after[i][name], tensor) for name, tensor in tensors.items()), i
    assert all(layer.dropped is None for layer in bayesian_layers(network.layers).values())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(layer._forward_pre_hooks or layer._forward_hooks for layer in network.layers)


def check_same(first: Cut, second: Cut) -> None:
    assert first.plan == second.plan
    assert first.network.cfg.to_bytes() == second.network.cfg.to_bytes()
    for i, tensors in first.network.state().items():
        for name, tensor in tensors.items():
            assert torch.equal(second.network.state()[i][name], tensor)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("recover", RECOVERIES)
def test_every_kind_of_cut_leaves_the_network_alone(name: str, recover: str) -> None:
    asked = SPECS[name]
    asked = Spec(asked.strategy, asked.amount, recover=recover)
    network = build(RESIDUAL)
    x = random_input(network)
    before, cfg, outputs = snapshot(network), network.cfg.to_bytes(), network(x)
    session = Session(network, images=random_input(network, 16).sigmoid())
    cut = session.cut(asked)
    assert cut.compact.macs() < network.macs()
    check_untouched(network, before, cfg)
    assert all(torch.equal(out, outputs[i]) for i, out in network(x).items())
    check_same(cut, session.cut(asked))


@pytest.mark.parametrize("amount", [Thresholds(), Thresholds((-7.0,)), Thresholds((0.0,), True)])
def test_thresholds_leave_the_posteriors_alone(amount: Amount) -> None:
    network = build(BAYESIAN)
    before, cfg = snapshot(network), network.cfg.to_bytes()
    session = Session(network, images=random_input(network, 16).sigmoid())
    cut = session.cut(Spec("bayesian", amount))
    assert cut.posterior
    check_untouched(network, before, cfg)
    check_same(cut, session.cut(Spec("bayesian", amount)))


def test_cuts_do_not_depend_on_those_before() -> None:
    """Nor on what a session has kept of them."""
    specs = [*SPECS.values(), spec("shortcut", 0.2), spec("shortcut", 0.4, importance="l1")]
    images = random_input(build(RESIDUAL), 16).sigmoid()
    session = Session(build(RESIDUAL), images=images)
    for asked in specs:
        check_same(session.cut(asked), Session(build(RESIDUAL), images=images).cut(asked))
