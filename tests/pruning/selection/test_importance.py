"""Importances: what they score, against loops and against weights that are taken away."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cfgs import NET, connected, conv, maxpool, net, route, shortcut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import build
from random_cfg import sample, samples
from specs import spec

from pruning.calibration.statistics import gather
from pruning.cut.folding import Folding
from pruning.graph.channels import ChannelGraph
from pruning.graph.rules import Weighted, rule_of
from pruning.registry import (
    GROUP_SCORES,
    IMPORTANCES,
    POSTERIOR,
    SENSITIVITY,
    ImportanceEntry,
)
from pruning.run.figures import ranked_scores
from pruning.selection.importance import GroupScores, Model, channel_scores
from pruning.selection.ranking import rank
from pruning.selection.select import select
from yolo.errors import PlanError
from yolo.network import Network

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=30)
OF_ANY = [
    name for name, entry in IMPORTANCES.items() if entry.needs != POSTERIOR
]  # that is for Bayesian networks
names = st.sampled_from(OF_ANY)


def model_of(case, **more):
    """With statistics of the sample's own input, and a scan that found no loss."""
    statistics = gather(Network.with_state(case.network.cfg, case.state), [case.x])
    graph = ChannelGraph(case.network)
    return Model(graph, case.state, statistics, sensitivity=np.zeros(graph.size), **more)


def filters(case, section):
    return case.state[section]["weights"].flatten(1).tolist()


@SLOW
@given(samples(), names, st.sampled_from(tuple(GROUP_SCORES)))
def test_every_importance_scores_every_group(case, name, how):
    model = model_of(case)
    scores = GroupScores.of(model, name, how)
    assert scores.groups.shape == (model.graph.size,)
    assert list(scores.channels) == model.graph.producers
    for i, values in scores.channels.items():
        assert values.shape == (model.graph.network.layers[i].out_shape.channels,)
        assert (values >= 0).all()
    assert np.isfinite(scores.groups).all()


@SLOW
@given(samples())
def test_norms_and_distances_against_loops(case):
    model = model_of(case)
    l1, l2, fpgm = (IMPORTANCES[name].load()(model) for name in ("l1", "l2", "fpgm"))
    for i in model.graph.producers:
        rows = filters(case, i)
        for c, row in enumerate(rows):
            assert l1[i][c] == pytest.approx(sum(map(abs, row)))
            assert l2[i][c] == pytest.approx(math.hypot(*row))
            away = sum(math.dist(row, other) for other in rows)
            assert fpgm[i][c] == pytest.approx(away, rel=1e-6, abs=1e-6)


@SLOW
@given(samples())
def test_lamp_against_loops(case):
    model = model_of(case)
    scores = IMPORTANCES["lamp"].load()(model)
    for i in model.graph.producers:
        energies = [sum(w * w for w in row) for row in filters(case, i)]
        assert scores[i].max() == 1
        for c, energy in enumerate(energies):
            remaining = sum(other for other in energies if other >= energy)
            # equal sums in another order may differ in their last digit
            near = sum(other for other in energies if other >= energy * (1 - 1e-12))
            assert energy / near * 0.999999 <= scores[i][c] <= energy / remaining * 1.000001


@SLOW
@given(samples())
def test_what_comes_next_is_the_energy_that_goes_with_a_group(case):
    """Zero what a group's channels meet, section by section, and see how much is missing."""
    model = model_of(case)
    graph, scales = model.graph, channel_scores(model.graph, case.state)
    scores = IMPORTANCES["bn-next"].load()(model)
    energy = np.zeros(graph.size)
    for i, layer in enumerate(graph.network.layers):
        rule = rule_of(layer)
        if not isinstance(rule, Weighted) or not layer.mixes:
            continue
        (ids,), whole = graph.inputs[i], model.weights(i)
        for group in np.unique(ids):
            without = whole.clone()
            for channel in np.flatnonzero(ids == group):
                rule.rewire(without, len(ids), int(channel), None)
            energy[group] += float((whole - without).square().sum())
    for i, values in scores.items():
        expected = scales[i] * np.sqrt(energy[graph.outputs[i]])
        np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-12)


def test_what_comes_next_looks_through_all_that_passes_channels_on():
    """Depthwise convolution, pool and route lie between; a connected section sees 4 positions."""
    text = NET + conv(4) + conv(4, groups=4) + maxpool(4, 4)
    case = sample(text + route(-1) + connected(5, activation=None))
    case.state[0]["scales"][:] = torch.tensor([1.0, 2, 3, 4])
    case.state[4]["weights"][:] = 0
    case.state[4]["weights"][:, 4:8] = 0.5  # channel 1 in its 4 positions
    scores = IMPORTANCES["bn-next"].load()(model_of(case))
    np.testing.assert_allclose(scores[0], [0, 2 * 0.5 * math.sqrt(4 * 5), 0, 0])
    assert (scores[1] > 0).tolist() == [False, True, False, False]
    assert (scores[4] == 0).all()  # nothing weighs the network's output


def test_filters_that_others_can_stand_for_go_first():
    case = sample(NET + conv(4, size=1) + conv(3))
    rows = torch.tensor([[5.0, 0, 0], [5, 0, 0], [5, 0.1, 0], [-5, 0, 0]])
    case.state[0]["weights"][:] = rows[:, :, None, None]
    graph = ChannelGraph(case.network)
    asked = spec("normal", 0.25, importance="fpgm")
    plan = select(Model(graph, case.state), asked, Folding(graph, case.state, "none"))
    assert plan.keep[0] in ((0, 2, 3), (1, 2, 3))


@SLOW
@given(samples(), st.floats(1e-3, 1e3))
def test_lamp_doesnt_see_the_scale_of_a_section(case, factor):
    model = model_of(case)
    before = IMPORTANCES["lamp"].load()(model)
    for i in model.graph.producers:
        case.state[i]["weights"].mul_(factor)
        factor = -2 / factor
    after = IMPORTANCES["lamp"].load()(model)
    for i, values in before.items():
        np.testing.assert_allclose(after[i], values, rtol=1e-9)


@pytest.mark.parametrize("name", OF_ANY)
def test_dead_sections_have_scores(name):
    case = sample(NET + conv(4) + conv(4) + conv(3))
    for tensors in case.state.values():
        for tensor in tensors.values():
            tensor.zero_()
    scores = GroupScores.of(model_of(case), name, "sum")
    assert np.isfinite(scores.groups).all()
    assert name == "random" or not scores.groups.any()


@pytest.mark.parametrize("name", sorted({*OF_ANY} - {"random", SENSITIVITY}))
def test_what_is_no_number_is_refused(name):
    case = sample(NET + conv(4) + conv(4, batch_normalize=0) + conv(3))
    case.state[1]["weights"][2] = torch.nan
    message = rf"x.cfg:\d+: \[convolutional\] importance {name} is not a number for channel \d"
    with pytest.raises(PlanError, match=message):
        GroupScores.of(model_of(case), name, "first")


def test_random_scores_are_drawn_for_groups():
    case = sample(NET + conv(40) + conv(40) + shortcut(0) + conv(3))
    first, same, other = (
        GroupScores.of(model_of(case, seed=seed), "random", "sum") for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.groups, same.groups)
    assert (first.groups != other.groups).any()
    np.testing.assert_array_equal(first.channels[0], first.channels[1])
    assert len(set(first.channels[0].tolist())) == 40


@pytest.mark.parametrize("group", GROUP_SCORES)
def test_an_importance_may_score_groups_from_what_was_measured(monkeypatch, group):
    def measured(model):
        scores = np.zeros(model.graph.size)
        scores[model.graph.outputs[1]] = model.statistics
        return scores

    monkeypatch.setattr("pruning.selection.importance.measured", measured, raising=False)
    entry = ImportanceEntry("measured", "", "pruning.selection.importance:measured")
    monkeypatch.setitem(IMPORTANCES, "measured", entry)
    case = sample(NET + conv(4) + conv(4) + shortcut(0) + conv(3))
    graph = ChannelGraph(case.network)
    asked = spec("shortcut", 0.5, group, importance="measured")
    folding = Folding(graph, case.state, "none")
    plan = select(Model(graph, case.state, np.array([3.0, 1, 2, 4])), asked, folding)
    assert plan.keep == {0: (0, 3), 1: (0, 3)}


BAYESIAN = net(6, 6) + conv(6, activation="relu") + conv(8, activation="relu")
BAYESIAN = BAYESIAN.replace("[conv", "[bayesian_conv") + conv(4, activation="relu")


def test_signal_is_what_the_noise_of_all_weights_leaves():
    posterior = build(BAYESIAN)
    first, second = posterior.layers[:2]
    for layer in (first, second):
        layer.prior.z_mean.data.fill_(1)
        layer.prior.z_logvar.data.copy_(torch.linspace(-6, 2, layer.filters))
        layer.weight_logvar.data.fill_(-60)  # only the scales are uncertain
    second.weight_logvar.data[5] = 3  # and all weights of one filter
    plain = posterior.plain()
    model = Model(ChannelGraph(plain), plain.state(), posterior=posterior)
    scores = IMPORTANCES["signal"].load()(model)
    alpha = first.log_alpha().double().exp().numpy()
    assert scores[0] == pytest.approx(1 / alpha, rel=1e-5)
    assert np.isinf(scores[2]).all()  # a plain section has no noise
    mean, variance = second.moments()
    by_hand = sum(w * w for w in mean[5].flatten().tolist()) / sum(variance[5].flatten().tolist())
    assert scores[1][5] == pytest.approx(by_hand, rel=1e-5)
    assert scores[1].argmin() == 5
    asked = spec("shortcut", target="params=0.7", importance="signal")
    folding = Folding(model.graph, plain.state())
    plan = select(model, asked, folding)
    assert 5 not in plan.keep[1]
    assert 0 in plan.keep[0]


def test_signal_of_a_network_without_noise():
    case = sample(net(4, 4) + conv(8) + conv(4))
    with pytest.raises(PlanError, match=r"importance signal: needs the .pt of a network"):
        IMPORTANCES["signal"].load()(model_of(case))


@pytest.mark.parametrize("cut", [0, 3, 8])
def test_a_picture_of_scores_and_their_threshold(cut):
    case = sample(NET + conv(8) + conv(3))
    case.state[0]["scales"][:] = torch.arange(1.0, 9)
    graph = ChannelGraph(case.network)
    folding = Folding(graph, case.state, "none")
    ranked = rank(Model(graph, case.state), spec("normal", 0.0), folding)
    alive = np.ones(graph.size, bool)
    alive[graph.outputs[0][:cut]] = False
    report = SimpleNamespace(cfg="x.cfg", strategy="normal", asked="percent 0.3")
    axes = ranked_scores(ranked, folding.fold(alive), report).axes[0]
    heights = [sum(bar.get_height() for bar in bars) for bars in axes.containers]
    assert heights == [cut, 8 - cut]
    assert "bn" in axes.get_xlabel()
    # the last score that went, or none
    assert [line.get_xdata()[0] for line in axes.lines] == ([cut] if cut else [])
    with pytest.raises(ValueError, match="no scores"):
        ranked_scores(replace(ranked, candidates=()), folding.fold(alive), report)
