"""Cuts of Bayesian networks: who drops a channel, and that what is left computes the same."""

import math

import numpy as np
import pytest
import torch
from cfgs import net
from networks import build, random_input

from pruning.bayesian.cut import BayesianCut, drop, log_alphas_of
from pruning.bayesian.thresholds import Threshold
from pruning.cut.folding import Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.proof.verify import prove_cut, prove_plain, relative
from pruning.spec import Limits, Thresholds
from yolo.errors import PlanError
from yolo.layers.bayesian import bayesian_layers
from yolo.network import Network

NET = net(5, 7)
ALL, AUTO = Limits(), Thresholds()
ZERO = Thresholds((0.0,))
SECTION = object()  # in limits: the first section that can be cut
BN = "batch_normalize=1\n"
CONV = "[bayesian_convolutional]\nprior={}\nfilters={}\nsize=3\npad=1\nactivation=relu\n"
FULL = "[bayesian_connected]\nprior={}\noutput={}\nactivation=linear\n"
HEAD = FULL.format("gnj", 4) + "[softmax]\n"
NETS = {
    "odd": CONV.format("gnj", 6) + CONV.format("ghs", 5) + FULL.format("gnj", 9) + HEAD,
    "bn": CONV.format("gnj", 6) + BN + "[maxpool]\nsize=2\nstride=2\n" + CONV.format("gnj", 8) + BN
    + HEAD,
    "shortcut": CONV.format("gnj", 6) + BN + CONV.format("gnj", 6) + "[shortcut]\nfrom=-2\n"
    "activation=leaky\n" + HEAD,
    "route": CONV.format("gnj", 6) + CONV.format("gnj", 4) + BN + "[route]\nlayers=-1,-2\n"
    + CONV.format("ghs", 5) + BN + "[avgpool]\n" + HEAD,
    "groups": CONV.format("gnj", 6) + CONV.format("gnj", 8).replace("size", "groups=2\nsize")
    + HEAD,
    "depthwise": CONV.format("gnj", 6) + CONV.format("gnj", 6).replace("size", "groups=6\nsize")
    + CONV.format("gnj", 5) + HEAD,
    "plain between": CONV.format("gnj", 6) + BN + CONV.format("", 8).replace("bayesian_", "")
    .replace("prior=\n", "") + FULL.format("gnj", 7) + HEAD,
}  # fmt: skip


def spread_out(text, seed):
    """A network with both kinds of groups; returns it with thresholds that tell them apart."""
    network = build(NET + text, seed)
    random = np.random.default_rng(seed)
    for layer in network.layers:
        if not layer.plain_type:
            continue
        values = torch.from_numpy(random.choice([-6.0, 6.0], len(layer.log_alpha()))).float()
        noisy = values > 0
        if hasattr(layer.prior, "z_mean"):
            layer.prior.z_logvar.data = values.clone()
            layer.prior.z_mean.data = torch.ones_like(values)
        else:
            layer.prior.local_mean.data[:] = torch.where(noisy, -6.0, 0.5)
        for name in ("weight_logvar", "bias_logvar"):
            if getattr(layer, name) is not None:
                getattr(layer, name).data.fill_(-6)
    log_alphas = log_alphas_of(network)
    return network, log_alphas, {i: Threshold(0.0, "") for i in log_alphas}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(4))
def test_a_cut_computes_what_the_masked_network_does(name, seed):
    """Exactly, with constant channels wherever zero padding is seen."""
    network, _, _ = spread_out(NETS[name], seed)
    check_exact(BayesianCut.of(network, ZERO))


@pytest.mark.parametrize("name", NETS)
def test_the_given_network_stays_as_it_is(name):
    """A twin, which shares its tensors, knows what is dropped."""
    network, _, _ = spread_out(NETS[name], 0)
    state = {i: {n: t.clone() for n, t in ts.items()} for i, ts in network.state().items()}
    before = {i: t.clone() for i, t in network(random_input(network)).items()}
    cut = BayesianCut.of(network, ZERO)
    assert cut.network is not network
    assert any(layer.dropped.any() for layer in bayesian_layers(cut.network.layers).values())
    assert all(layer.dropped is None for layer in bayesian_layers(network.layers).values())
    after = network(random_input(network))
    assert all(torch.equal(after[i], before[i]) for i in before)
    for i, tensors in network.state().items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, state[i][key])
            assert tensor.data_ptr() == cut.network.state()[i][key].data_ptr()


def check_exact(cut):
    """What is cut computes what the silenced network computes."""
    network = cut.network
    plain = network.plain()
    prove_plain(network, plain)
    graph, state = ChannelGraph(plain), plain.state()
    folding = Folding(graph, state, "exact")
    plan = cut.plan(graph, "bayesian")
    fold = folding.fold(plan.alive(graph), plan.mean)
    cfg, small = operate(graph, state, fold)
    exact, _ = prove_cut(graph, state, fold, cfg, small)
    assert exact.value < 1e-5
    smaller, x, heads = Network.with_state(cfg, small), random_input(network), network.head_inputs
    with torch.no_grad():
        compact, masked = smaller(x, collect=heads), network(x, collect=heads)
    assert relative(compact, masked) < 1e-4
    assert smaller.count_parameters() <= plain.count_parameters()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(4))
def test_a_channel_goes_where_all_makers_or_all_users_drop_it(name, seed):
    """Brute force, channel by channel."""
    network, log_alphas, thresholds = spread_out(NETS[name], seed)
    graph = ChannelGraph(network)
    alive = drop(network, graph, log_alphas, thresholds, ALL)
    makers, users = {}, {}
    for i, layer in enumerate(network.layers):
        kind = layer.section.type
        if "convolutional" in kind or "connected" in kind:
            for channel, group in enumerate(graph.outputs[i]):
                drops = kind == "bayesian_convolutional" and log_alphas[i][channel] >= 0
                makers.setdefault(group, []).append(drops)
            if getattr(layer, "groups", 1) == layer.inputs[0].channels:
                continue
            for channel, group in enumerate(graph.inputs[i][0]):
                drops = False
                if kind == "bayesian_connected":
                    area = layer.inputs[0].area
                    drops = (log_alphas[i][channel * area : (channel + 1) * area] >= 0).all()
                users.setdefault(group, []).append(drops)
    for family in graph.families:
        wanted = [
            [not (all(makers[g]) or (g in users and all(users[g]))) for g in part]
            for part in family.groups
        ]
        most = max(max(map(sum, wanted)), 1)
        for part, want in zip(family.groups, wanted, strict=True):
            kept = alive[part]
            assert kept.sum() == most
            assert kept[np.array(want)].all()
            if sum(want) == most:
                assert (kept == np.array(want)).all()


def limited(name, seed, **limits):
    """A graph, its first section that can be cut, a limited cut, and what lives without limits."""
    network, log_alphas, thresholds = spread_out(NETS[name], seed)
    graph = ChannelGraph(network)
    free = drop(network, graph, log_alphas, thresholds, ALL)
    section = next(i for i in graph.producers if graph.prunable(i))
    named = {key: (section,) if value is SECTION else value for key, value in limits.items()}
    cut = BayesianCut.of(network, ZERO, Limits(**named))
    check_exact(cut)
    return graph, section, cut, free


def families_of(graph, section):
    """The channel groups that a section's groups live and die with."""
    groups = np.zeros(graph.size, bool)
    for family in graph.families:
        if section in family.sections:
            groups[family.groups] = True
    return groups


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_spared_stays(name, seed):
    graph, section, cut, free = limited(name, seed, spare=SECTION)
    spared = families_of(graph, section)
    assert (cut.alive == (free | spared)).all()
    for i, channels in channels_of_groups(graph):
        assert not cut.network.layers[i].dropped.numpy()[spared[channels]].any()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(4))
def test_only_what_is_named_goes(name, seed):
    graph, section, cut, free = limited(name, seed, only=SECTION)
    named = families_of(graph, section)
    assert (cut.alive == (free | ~named)).all()
    for i, channels in channels_of_groups(graph):
        own = named | graph.pinned if i == section else named
        assert not cut.network.layers[i].dropped.numpy()[~own[channels]].any()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(4))
def test_every_section_keeps_its_least(name, seed):
    graph, _, cut, free = limited(name, seed, keep_min=4)
    assert cut.alive[free].all()
    for family in graph.families:
        least = -(-4 // family.unit)
        for part in family.groups:
            assert cut.alive[part].sum() == max(free[part].sum(), least)


def channels_of_groups(graph):
    """The channel of every group of the Bayesian sections."""
    for i, layer in enumerate(graph.network.layers):
        if layer.section.type == "bayesian_convolutional":
            yield i, graph.outputs[i]
        elif layer.section.type == "bayesian_connected":
            yield i, np.repeat(graph.inputs[i][0], layer.inputs[0].area)


@pytest.mark.parametrize(("limits", "silent"), [(ALL, True), (Limits(spare=(0,)), False)])
def test_positions_of_the_image_belong_to_the_section_that_uses_them(limits, silent):
    network, _, _ = spread_out(FULL.format("gnj", 9) + HEAD, 0)
    cut = BayesianCut.of(network, ZERO, limits)
    assert cut.network.layers[0].dropped.any() == silent


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"spare": (9,)}, "--spare 9: sections are numbered from 0 to 2"),
        ({"spare": (2,)}, r"x.cfg:15: \[softmax\] --spare 2: has no filters to cut"),
        ({"only": (1,)}, r"x.cfg:11: \[bayesian_connected\] --only 1: can't be cut: it "),
        ({"only": (0,), "spare": (0,)}, "--only 0: can't be cut: it is spared"),
    ],
)
def test_sections_that_can_not_be_meant(limits, message):
    network = build(NET + CONV.format("gnj", 4) + HEAD)
    with pytest.raises(PlanError, match=message):
        BayesianCut.of(network, AUTO, Limits(**limits))


def test_a_family_keeps_its_best_channel():
    network = build(NET + CONV.format("gnj", 4) + HEAD)
    layer = network.layers[0]
    layer.prior.z_mean.data = torch.ones(4)
    layer.prior.z_logvar.data = torch.tensor([5.0, 3.0, 4.0, 6.0])
    network.layers[1].prior.z_mean.data.fill_(1.0)
    network.layers[1].prior.z_logvar.data.fill_(-9.0)
    cut = BayesianCut.of(network, ZERO)
    assert cut.alive[cut_outputs(network)].tolist() == [False, True, False, False]
    assert cut.network.layers[0].dropped.tolist() == [True, False, True, True]


def cut_outputs(network):
    return ChannelGraph(network).outputs[0]


def test_rates_count_what_is_left():
    """A LeNet in small: 2 of 6 filters, 3 of 9 units and a hundred of their positions."""
    network = spread_out(NETS["odd"], 1)[0]
    cut = BayesianCut.of(network, ZERO)
    first, second, third, last = (cut.network.layers[i] for i in (0, 1, 2, 3))
    filters = int((~first.dropped).sum())
    second_filters = (~second.dropped).sum().item()
    graph = ChannelGraph(network)
    units = int(cut.alive[graph.outputs[2]].sum())
    kept = ~third.dropped & torch.from_numpy(np.repeat(cut.alive[graph.inputs[2][0]], 35))
    columns = int(kept.sum())
    expected = [filters * 3 * 9, filters * second_filters * 9, columns * units, units * 4]
    assert [layer.after for layer in cut.rates.layers] == expected
    before = [6 * 3 * 9, 5 * 6 * 9, 5 * 35 * 9, 9 * 4]
    assert [layer.before for layer in cut.rates.layers] == before
    assert cut.rates.weights.architecture == pytest.approx(sum(before) / sum(expected))
    assert int((~last.dropped).sum()) >= units


def test_thresholds_that_keep_all_cut_nothing():
    network, _, _ = spread_out(NETS["bn"], 0)
    cut = BayesianCut.of(network, Thresholds((math.inf,)))
    assert cut.alive.all()
    assert cut.plan(ChannelGraph(network.plain()), "bayesian").keep == {}
    assert cut.rates.weights.architecture == 1


def test_a_plain_network_has_nothing_to_choose():
    network = build(NET + "[convolutional]\nactivation=linear\n")
    with pytest.raises(PlanError, match=r"no Bayesian section; tools/convert.py bayesian"):
        BayesianCut.of(network, AUTO)


def test_a_posterior_that_is_not_finite():
    network = build(NET + CONV.format("gnj", 4) + HEAD)
    network.layers[0].prior.z_logvar.data[2] = math.nan
    with pytest.raises(PlanError, match=r"x.cfg:5: \[bayesian_convolutional\] .* not finite"):
        BayesianCut.of(network, AUTO)
