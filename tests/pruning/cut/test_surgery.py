"""The cut: whatever the graph and the plan, the small network computes what the masked one does."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from random_cfg import Sample, samples

from pruning.cut.folding import Fold, Folding, constants
from pruning.cut.plan import Plan
from pruning.cut.surgery import masked, operate
from pruning.graph.channels import ChannelGraph
from pruning.options import FOLDS
from yolo.cfg import Cfg
from yolo.models.weights import load_weights, save_weights
from yolo.network import Network, State

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)
EXACT = 1e-9


@dataclass(frozen=True)
class Cutting:
    """A random cut of a random network."""

    sample: Sample
    graph: ChannelGraph
    folding: Folding
    plan: Plan
    fold: Fold
    cfg: Cfg
    small: State

    def __repr__(self) -> str:
        return f"{self.sample!r}\n{self.folding.mode} {self.plan.keep}"

    @property
    def compact(self) -> Network:
        return Network.with_state(self.cfg, self.small)


def random_alive(graph, counts, seed=0):
    """`counts` slots of each family stay, chosen at random in each of its parts."""
    alive = np.ones(graph.size, bool)
    random = np.random.default_rng(seed)
    for family, count in zip(graph.families, counts, strict=True):
        for part in family.groups:
            alive[random.permutation(part)[count:]] = False
    return alive


def cut(sample, mode, counts=None, seed=0):
    """Cut to `counts` slots a family, by default half of them."""
    graph = ChannelGraph(sample.network)
    counts = counts or [(family.slots + 1) // 2 for family in graph.families]
    folding = Folding(graph, sample.state, mode)
    plan = Plan.of(graph, random_alive(graph, counts, seed), "random", 0)
    fold = folding.fold(plan.alive(graph), plan.mean)
    return Cutting(sample, graph, folding, plan, fold, *operate(graph, sample.state, fold))


@st.composite
def cuts(draw, modes=tuple(FOLDS)):
    sample = draw(samples())
    graph = ChannelGraph(sample.network)
    counts = [draw(st.integers(1, family.slots)) for family in graph.families]
    return cut(sample, draw(st.sampled_from(modes)), counts, draw(st.integers(0, 99)))


def outputs(network, x, wanted):
    with torch.no_grad():
        found = network(x, wanted)
    if not all(torch.isfinite(out).all() and out.norm() < 1e30 for out in found.values()):
        reject()
    return found


def distance(a, b):
    """Relative L2; where nothing is there, absolute."""
    return float((a - b).norm() / (b.norm() + 1e-12))


def compared(cutting, folded):
    """The largest distance of the small network from the masked one at the heads' inputs."""
    sample = cutting.sample
    reference = masked(cutting.graph, sample.state, cutting.fold, folded)
    wanted = sample.network.head_inputs
    a = outputs(cutting.compact, sample.x, wanted)
    b = outputs(Network.with_state(sample.network.cfg, reference), sample.x, wanted)
    return max((distance(a[i], b[i]) for i in wanted), default=0.0)


def carried(cutting):
    """Whether every constant that padding borders on can be carried exactly."""
    weak, seen = cutting.folding.weak, cutting.folding.seen
    for family in cutting.graph.families:
        dropped = ~cutting.fold.alive[family.groups]
        strong = dropped & ~weak[family.groups]
        if (seen[family.groups] & dropped).any() and not strong.any(1).all():
            return False
    return True


@SLOW
@given(cuts(modes=("exact",)))
def test_an_exact_cut_computes_what_the_masked_network_does(cutting):
    assert compared(cutting, folded=True) < EXACT
    if carried(cutting):
        assert compared(cutting, folded=False) < EXACT


@SLOW
@given(cuts(modes=("auto", "mean", "none")))
def test_other_folds_compute_what_the_masked_network_with_the_same_folds_does(cutting):
    assert compared(cutting, folded=True) < EXACT


@SLOW
@given(cuts())
def test_every_section_keeps_the_channels_that_it_should(cutting):
    graph, kept = cutting.graph, cutting.fold.kept
    compact = cutting.compact
    before, after = cutting.sample.network.layers, compact.layers
    for i, (old, new) in enumerate(zip(before, after, strict=True)):
        assert new.section.type == old.section.type
        assert new.out_shape.channels == kept[graph.outputs[i]].sum()
        assert new.out_shape.area == old.out_shape.area
        if graph.pinned[graph.outputs[i]].all():
            assert new.out_shape == old.out_shape
        if old.section.type == "shortcut":
            assert new.unequal == old.unequal
        if old.is_head:
            assert new.inputs == old.inputs
    for family in graph.families:
        assert len(set(kept[family.groups].sum(1).tolist())) == 1
    shapes = {i: {n: t.shape for n, t in tensors.items()} for i, tensors in cutting.small.items()}
    expected = compact.state().items()
    assert shapes == {i: {n: t.shape for n, t in tensors.items()} for i, tensors in expected}


@SLOW
@given(cuts())
def test_a_silenced_channel_is_the_constant_that_was_predicted(cutting):
    sample, graph, alive = cutting.sample, cutting.graph, cutting.fold.alive
    predicted = constants(sample.network, sample.state).silenced
    state = masked(graph, sample.state, cutting.fold, folded=False)
    found = outputs(
        Network.with_state(sample.network.cfg, state), sample.x, range(len(predicted) - 1)
    )
    for i, out in found.items():
        dead = ~alive[graph.outputs[i]]
        expected = predicted[i][dead][None, :, None, None].expand_as(out[:, dead])
        torch.testing.assert_close(out[:, dead], expected, rtol=1e-9, atol=1e-12)


@SLOW
@given(cuts())
def test_a_cut_network_reads_back_what_it_wrote(tmp_path_factory, cutting):
    folder = tmp_path_factory.mktemp("cut")
    cutting.cfg.write(folder / "x.cfg")
    single = {
        i: {name: tensor.float() for name, tensor in tensors.items()}
        for i, tensors in cutting.small.items()
    }
    written = Network.with_state(cutting.cfg, single)
    save_weights(written, folder / "x.weights")
    read = Network(Cfg.load(folder / "x.cfg"))
    load_weights(read, folder / "x.weights")
    x, heads = cutting.sample.x.float(), written.heads
    with torch.no_grad():
        a, b = written(x), read(x)
    assert all(torch.equal(a[i], b[i]) or not a[i].isfinite().all() for i in heads)


@SLOW
@given(samples(), st.sampled_from(tuple(FOLDS)))
def test_keeping_everything_changes_nothing(sample, mode):
    counts = [family.slots for family in ChannelGraph(sample.network).families]
    cutting = cut(sample, mode, counts)
    assert cutting.plan.keep == {}
    assert cutting.cfg.to_bytes() == sample.network.cfg.to_bytes()
    assert all(
        cutting.small[i][name] is tensor
        for i, tensors in sample.state.items()
        for name, tensor in tensors.items()
    )
