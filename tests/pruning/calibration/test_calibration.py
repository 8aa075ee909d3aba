"""Calibration against brute force: jacobians, least squares by numpy, channels that are copies."""

import itertools

import numpy as np
import pytest
import torch
from cfgs import conv, net, plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import build, random_input
from random_cfg import samples

from pruning.calibration import statistics as measured
from pruning.calibration.elimination import System, eliminate, group_losses
from pruning.calibration.images import split
from pruning.calibration.outputs import Outputs
from pruning.calibration.reconstruct import KeptOutputs, Moments, matched, reconstruct, solved
from pruning.calibration.recovery import recover
from pruning.calibration.samples import seen_and_given
from pruning.calibration.statistics import gather
from pruning.cut.folding import Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.head_error import head_error
from pruning.registry import RECOVERIES
from pruning.selection.importance import Model
from yolo.network import Network

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=25)
NET = net(12, 10)
CHAIN = NET + conv(6) + conv(5, stride=2, activation="mish") + plain(4)


def images(network, count, seed=0):
    """Pictures in [0, 1]: smooth enough that neighbours go together."""
    shape = network.image
    size = (count, shape.channels, shape.height, shape.width)
    return torch.rand(size, generator=torch.Generator().manual_seed(seed))


def cut(network, families=slice(None), share=0.5, mode="auto"):
    """Graph, fold and smaller network where the last half of every family goes."""
    graph = ChannelGraph(network)
    alive = np.ones(graph.size, bool)
    for family in graph.families[families]:
        alive[family.groups[:, max(1, round(family.slots * share)) :]] = False
    fold = Folding(graph, network.state(), mode).fold(alive)
    cfg, state = operate(graph, network.state(), fold)
    return graph, fold, Network.with_state(cfg, state)


# What is measured


def test_covariances_are_those_of_all_positions():
    network = build(CHAIN)
    x = images(network, 3)
    statistics = gather(network, x.split(2))
    with torch.no_grad():
        inner = network(x, collect=[0])[0]
    for section, seen in ((0, x), (1, inner)):
        rows = seen.transpose(0, 1).flatten(1).double().numpy()
        expected = np.cov(rows, bias=True)
        np.testing.assert_allclose(
            statistics.covariance[section][0], expected, rtol=1e-4, atol=1e-6
        )
    np.testing.assert_allclose(
        statistics.energy[0], inner.double().var((0, 2, 3), correction=0), rtol=1e-4
    )


def test_effects_are_those_of_the_jacobian(monkeypatch):
    monkeypatch.setattr(measured, "PROJECTIONS", 400)
    network = build(CHAIN)
    x = images(network, 2)
    statistics = gather(network, [x])
    scale = network(x)[2].detach().var((0, 2, 3), correction=0).rsqrt()
    first, second = network.layers[1], network.layers[2]
    inside = network(x, collect=[0])[0].detach()

    def heads(y):
        head = second(first.activation(first.normalize(y)))
        return head * scale[:, None, None] / head[0].numel() ** 0.5

    y = first.weigh(inside).detach()
    jacobian = torch.autograd.functional.jacobian(heads, y)  # (N, C, H, W, N, n, H, W)
    expected = jacobian.square().sum((0, 1, 2, 3)).sum((0, 2, 3)) / len(x)
    np.testing.assert_allclose(statistics.effect[1], expected, rtol=0.25)
    assert statistics.effect[1].sum() == pytest.approx(float(expected.sum()), rel=0.1)
    assert all((statistics.taylor[i] >= 0).all() for i in (0, 1))


def test_single_images_of_a_classifier_tell_enough():
    network = build(CHAIN + "[avgpool]\n[softmax]\n")
    statistics = gather(network, images(network, 3).split(1))
    for tensors in (statistics.covariance, statistics.effect, statistics.energy, statistics.taylor):
        assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert (statistics.effect[0] > 0).all()


def test_a_network_is_as_it_was_after_a_look():
    network = build(CHAIN)
    before = {i: {n: t.clone() for n, t in ts.items()} for i, ts in network.state().items()}
    x = images(network, 2)
    outputs = network(x)[2].detach().clone()
    gather(network, [x])
    assert torch.equal(network(x)[2], outputs)
    for i, tensors in network.state().items():
        assert all(torch.equal(tensor, before[i][name]) for name, tensor in tensors.items())


# What others can make up for


def made_up_loss(covariance, weights, gone):
    """Mean square that is left of the outputs when other inputs take over: numpy's way."""
    kept = [c for c in range(len(covariance)) if c not in gone]
    gone = list(gone)
    schur = covariance[np.ix_(gone, gone)]
    if kept:
        across = covariance[np.ix_(gone, kept)]
        schur = schur - across @ np.linalg.solve(covariance[np.ix_(kept, kept)], across.T)
    return float(np.trace(weights[:, gone] @ schur @ weights[:, gone].T))


@SLOW
@given(st.integers(0, 10**6), st.integers(2, 7), st.sampled_from([1, 2]))
def test_elimination_is_the_greedy_choice(seed, slots, each):
    random = np.random.default_rng(seed)
    channels = slots * each + 1  # one that isn't the family's
    factor = random.normal(size=(channels, channels + 3))
    covariance, weights = factor @ factor.T, random.normal(size=(4, channels))
    order = random.permutation(slots * each)
    channels_of = torch.from_numpy(order.reshape(slots, each))
    inverse = torch.from_numpy(np.linalg.inv(covariance))
    losses = eliminate([System(inverse, torch.from_numpy(weights.T @ weights), channels_of)], slots)
    gone, left, lost, highest = [], set(range(slots)), 0.0, 0.0
    while left:
        trials = {
            slot: made_up_loss(covariance, weights, [*gone, *channels_of[slot].tolist()])
            for slot in left
        }
        slot = min(trials, key=trials.get)
        highest = max(highest, trials[slot] - lost)
        assert losses[slot] == pytest.approx(highest, rel=1e-5, abs=1e-8)
        lost = trials[slot]
        gone += channels_of[slot].tolist()
        left.remove(slot)


def test_copies_of_channels_cost_nothing():
    network = build(CHAIN)
    state = network.state()
    for tensor in state[0].values():
        tensor[4] = tensor[1]
    graph = ChannelGraph(network)
    scores = group_losses(graph, state, gather(network, images(network, 8).split(4)))
    channels = scores[graph.outputs[0]]
    cheap = min(channels[1], channels[4])  # one of the two
    assert cheap == channels.min()
    assert max(channels[1], channels[4]) > 50 * cheap


@SLOW
@given(samples())
def test_every_network_has_losses(sample):
    network = Network.with_state(sample.network.cfg, sample.state)
    graph = ChannelGraph(network)
    scores = group_losses(graph, sample.state, gather(network, [sample.x]))
    assert np.isfinite(scores).all()
    assert (scores >= -1e-9).all()


# Weights solved anew


def moments(count, inputs, outputs, seed=0):
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(2, count, inputs, generator=random, dtype=torch.float64) + 0.5
    weights = torch.randn(2, inputs, outputs, generator=random, dtype=torch.float64)
    y = x @ weights + 3 + 0.1 * torch.randn(2, count, outputs, generator=random).double()
    return x, y


def test_solutions_are_numpys():
    x, y = moments(200, 5, 3)
    first = torch.zeros(2, 5, 3, dtype=torch.float64)
    known = Moments.of(x[:, :150], y[:, :150])
    held_out = Moments.of(x[:, 150:], y[:, 150:])
    weights = solved(known, held_out, first)
    bias = (known + held_out).bias(weights)
    for group in range(2):
        ones = np.concatenate((x[group], np.ones((200, 1))), 1)
        expected = np.linalg.lstsq(ones, y[group].numpy(), rcond=None)[0]
        np.testing.assert_allclose(weights[group], expected[:-1], rtol=1e-2, atol=1e-2)
        np.testing.assert_allclose(bias[group], expected[-1], rtol=1e-2)


def test_weights_stay_where_none_is_better():
    x, _ = moments(6, 5, 3)  # as many unknowns as samples, so that noise is fitted
    exact, _ = moments(4000, 5, 3, seed=1)
    first = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    noise -= noise.mean(1, keepdim=True)  # the bias is right
    known = Moments.of(x, x @ first + 10 * noise)
    held_out = Moments.of(exact, exact @ first)
    weights = solved(known, held_out, first)
    assert torch.equal(weights, first)
    assert not torch.equal(solved(known, None, first), first)


def test_matched_outputs_have_the_variances_that_were():
    x, y = moments(500, 4, 3)
    first = torch.randn(2, 4, 3, dtype=torch.float64)
    first[0, :, 1] = 0  # gives nothing that could be made larger
    total = Moments.of(x, y)
    weights = matched(total, None, first)
    outputs = x @ weights + total.bias(weights)[:, None]
    torch.testing.assert_close(outputs.mean(1), y.mean(1))
    alive = torch.ones(2, 3, dtype=torch.bool)
    alive[0, 1] = False
    torch.testing.assert_close(outputs.var(1)[alive], y.var(1)[alive])
    assert torch.equal(weights[0, :, 1], first[0, :, 1])


@pytest.mark.parametrize(
    "keys",
    [
        "filters=4\nsize=3\npad=1",
        "filters=4\nsize=3\nstride=2",
        "filters=6\nsize=3\npad=1\ngroups=3\ndilation=2",
        "filters=6\nsize=3\npad=1\ngroups=6",
        "filters=4\nsize=5\npadding=1\nstride_x=2",
    ],
)
def test_samples_are_what_the_section_computes(keys):
    text = net(12, 10, 6) + f"[convolutional]\n{keys}\nactivation=linear\n"
    network = build(text)
    layer = network.layers[0]
    x = random_input(network)
    with torch.no_grad():
        y = layer.weigh(x)
    seen, outputs = seen_and_given(layer, x, y, 7, torch.Generator().manual_seed(0))
    weights = layer.conv.weight.detach().flatten(1).unflatten(0, (layer.groups, -1))
    bias = layer.conv.bias.detach().reshape(layer.groups, 1, -1)
    assert seen.shape[1] == 14
    torch.testing.assert_close(seen @ weights.mT + bias, outputs, rtol=1e-4, atol=1e-5)


# Networks


@pytest.mark.parametrize("section", [0, 1])
def test_copies_are_made_up_for(section):
    network = build(CHAIN)
    for tensor in network.state()[section].values():
        half = len(tensor) // 2
        tensor[half : 2 * half] = tensor[:half]
    graph = ChannelGraph(network)
    alive = np.ones(graph.size, bool)
    half = network.layers[section].filters // 2
    alive[graph.outputs[section][half : 2 * half]] = False
    fold = Folding(graph, network.state(), "auto").fold(alive)
    cfg, state = operate(graph, network.state(), fold)
    smaller = Network.with_state(cfg, state)
    better, recovery = recover(RECOVERIES["reconstruct"], graph, fold, smaller, images(network, 64))
    assert recovery.kept
    assert recovery.before > 0.02
    assert recovery.after < 0.001
    assert head_error(network, better, images(network, 4, seed=9)) < 0.001


def test_nothing_changes_where_nothing_is_cut():
    network = build(CHAIN)
    graph, fold, smaller = cut(network, slice(0, 0))
    state = reconstruct(solved, graph, fold, smaller, images(network, 8).split(2))
    for i, tensors in network.state().items():
        assert all(torch.equal(state[i][name], tensor) for name, tensor in tensors.items())


@SLOW
@given(
    samples(), st.sampled_from(("bn", "reconstruct")), st.sampled_from(["auto", "exact", "mean"])
)
def test_every_network_can_be_made_up_for(sample, method, mode):
    network = Network.with_state(sample.network.cfg, sample.state)
    graph, fold, smaller = cut(network, mode=mode)
    x = sample.x.repeat(8, 1, 1, 1)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    better, recovery = recover(RECOVERIES[method], graph, fold, smaller, x + noise)
    assert recovery.kept == (recovery.after < recovery.before)
    for i, tensors in smaller.state().items():
        constant = KeptOutputs.of(graph, fold, i).constant
        for name, tensor in better.state()[i].items():
            assert tensor.shape == tensors[name].shape
            assert tensor.isfinite().all()
            if name in ("weights", "biases") and len(constant) == len(tensor):
                assert torch.equal(tensor[constant], tensors[name][constant])


def test_recovery_that_is_no_gain_is_rolled_back(monkeypatch):
    def spoil(known, held_out, first):
        return first + 10

    network = build(CHAIN)
    graph, fold, smaller = cut(network)
    monkeypatch.setattr("pruning.calibration.reconstruct.solved", spoil)
    kept, recovery = recover(RECOVERIES["reconstruct"], graph, fold, smaller, images(network, 16))
    assert kept is smaller
    assert not recovery.kept
    assert "not better, so the fold stays" in str(recovery)


def test_judges_take_no_part():
    x = torch.arange(17.0).reshape(17, 1, 1, 1)
    known, judges = split(x)
    assert judges.flatten().tolist() == [7, 15]
    assert not set(known.flatten().tolist()) & {7, 15}
    few = x[:3]
    assert split(few)[0] is split(few)[1] is few


def test_outputs_in_files_are_the_same():
    network = build(CHAIN)
    x = images(network, 6).split(2)
    with torch.no_grad():
        held, filed = Outputs(network, x), Outputs(network, x, memory=0)
        for section in range(3):
            for a, b in itertools.zip_longest(held.inputs(section), filed.inputs(section)):
                assert torch.equal(a, b)
            held.compute(section)
            filed.compute(section)


def test_an_importance_without_images_says_so():
    network = build(CHAIN)
    model = Model(ChannelGraph(network), network.state())
    with pytest.raises(Exception, match="importance taylor: needs images: --calibrate"):
        model.seen("taylor")
