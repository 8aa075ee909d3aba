"""The cut: whatever the graph and the plan, the small network computes what the masked one does."""

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_cfg import samples
from surgeries import carried, compared, cut, cuts, outputs

from pruning.cut.constants import constants
from pruning.cut.surgery import masked
from pruning.graph.channels import ChannelGraph
from pruning.registry import FOLDS
from yolo.cfg import Cfg
from yolo.models.weights import load_weights, save_weights
from yolo.network import Network

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)
EXACT = 1e-9


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
    collected = outputs(
        Network.with_state(sample.network.cfg, state), sample.x, range(len(predicted) - 1)
    )
    for i, out in collected.items():
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
    # in memory of their own, as what was written: the last bit may depend on where tensors lie
    own = {i: {n: t.clone() for n, t in tensors.items()} for i, tensors in read.state().items()}
    x, heads = cutting.sample.x.float(), written.heads
    with torch.no_grad():
        a, b = written(x), Network.with_state(read.cfg, own)(x)
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
