"""Costs of a cut: what the built network says of itself."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from paths import ROOT
from specs import cost_of
from surgeries import cuts

from pruning.cut.folding import Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Costs
from yolo.cfg import Cfg
from yolo.models.weights import Header
from yolo.network import Network

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
CFGS = sorted(path.name for path in (ROOT / "cfg").glob("*.cfg") if "bayesian" not in path.stem)


@SLOW
@given(cuts())
def test_costs_are_those_of_the_built_network(cutting):
    for header in (Header(), Header(0, 1, 0)):
        assert Costs(cutting.graph, header).of(cutting.fold.kept) == cost_of(
            cutting.compact, header
        )


@pytest.mark.parametrize("name", CFGS)
def test_costs_of_the_networks_that_we_bring(name):
    network = Network(Cfg.load(ROOT / "cfg" / name))
    state = {
        i: {name: torch.zeros(1).expand(t.shape) for name, t in tensors.items()}
        for i, tensors in network.state().items()
    }
    graph = ChannelGraph(network)
    alive = np.ones(graph.size, bool)
    costs = Costs(graph)
    assert costs.of(alive) == cost_of(network)
    for n, family in enumerate(graph.families):
        alive[family.groups[:, (family.slots + n) // 2 + 1 :]] = False
    fold = Folding(graph, state, "none").fold(alive)
    assert costs.of(fold.kept) == cost_of(Network.with_state(*operate(graph, state, fold)))
