"""Sparse training: the proximal step, what it leaves alone, its schedules, and the probe."""

import copy
import math
from io import BytesIO

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cfgs import conv, net, shortcut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from random_cfg import samples
from specs import spec

from pruning.cut.folding import Folding
from pruning.cut.surgery import masked
from pruning.graph.channels import ChannelGraph
from pruning.proof.verify import relative
from pruning.registry import SCHEDULES
from pruning.selection.families import prunable
from pruning.selection.importance import Model
from pruning.selection.select import reachable, select
from pruning.sparse.figures import gamma_history
from pruning.sparse.penalty import CHANGE, Penalty, SparsityProgress, look, strength
from pruning.sparse.training import SparseTraining
from yolo.cfg import Cfg
from yolo.errors import PlanError
from yolo.figures import png
from yolo.models.randomize import randomize, smooth_noise
from yolo.network import Network

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=25)
NET = net(16, 16)
NORMAL, SHORTCUT = spec("normal", 0.0), spec("shortcut", 0.0)
amounts = st.sampled_from((0.0, 1e-3, 0.2, 0.7, 5.0))


HEAD = "[yolo]\nclasses=1\nnum=1\nanchors=4,4\n"
PLAIN = NET + conv(8) + conv(12, stride=2) + conv(6, batch_normalize=0, size=1) + HEAD
# the shortcut couples sections 0 and 2; 1 is free
RESIDUAL = (
    NET
    + conv(8)
    + conv(6, size=1)
    + conv(8)
    + shortcut(-3)
    + conv(6, batch_normalize=0, size=1)
    + HEAD
)


def network(text):
    net = Network(Cfg(text.encode(), "x.cfg"))
    randomize(net)
    return net


def snapshot(net):
    return {(i, n): t.clone() for i, tensors in net.state().items() for n, t in tensors.items()}


def gammas_of_groups(graph, state, asked):
    """Section and channel of every γ of every prunable group, channel by channel."""
    allowed, by_group = prunable(graph, asked), {}
    for i in graph.producers:
        for channel, group in enumerate(graph.outputs[i].tolist()):
            if "scales" in state[i] and allowed[group]:
                by_group.setdefault(group, []).append((i, channel))
    return list(by_group.values())


def norm(state, channels):
    return math.sqrt(sum(float(state[i]["scales"][channel]) ** 2 for i, channel in channels))


@SLOW
@given(samples(), st.sampled_from(("normal", "shortcut")), amounts)
def test_a_step_group_by_group(sample, strategy, amount):
    """Random networks against loops: groups shrink by √n·amount, all else stays to the bit."""
    net, asked = sample.network, spec(strategy, 0.0)
    state = {i: {n: t.clone() for n, t in tensors.items()} for i, tensors in sample.state.items()}
    net.store(state)
    graph = ChannelGraph(net)
    groups = gammas_of_groups(graph, sample.state, asked)
    if not groups:
        with pytest.raises(PlanError, match=f"nothing to make sparse: {strategy} finds no"):
            Penalty.of(graph, asked)
        return
    penalty = Penalty.of(graph, asked)
    assert penalty.groups == len(groups)
    expected = {i: dict(tensors) for i, tensors in sample.state.items()}
    for channels in groups:
        size = norm(sample.state, channels)
        left = max(size - math.sqrt(len(channels)) * amount, 0)
        for i, channel in channels:
            scales = expected[i]["scales"] = expected[i]["scales"].clone()
            scales[channel] *= left / size if size else 0
    value = sum(math.sqrt(len(channels)) * norm(sample.state, channels) for channels in groups)
    assert penalty.value(net) == pytest.approx(value)
    count = sum(map(len, groups))
    assert len(penalty.gammas(net)) == count
    penalty.shrink(net, amount)
    touched = {position for channels in groups for position in channels}
    for i, tensors in net.state().items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(tensor, expected[i][name], rtol=1e-12, atol=1e-15)
            for channel in range(len(tensor) if name == "scales" else 0):
                if (i, channel) not in touched:
                    assert tensor[channel] == sample.state[i][name][channel]


@pytest.mark.parametrize("amount", [0.0, 0.01, 0.5])
def test_a_single_gamma_is_soft_thresholded(amount):
    net = network(PLAIN)
    net.layers[0].bn.weight.data[::2] *= -1
    before = snapshot(net)
    Penalty.of(ChannelGraph(net), NORMAL).shrink(net, amount)
    for (i, name), tensor in snapshot(net).items():
        expected = before[i, name]
        if name == "scales":
            expected = F.softshrink(expected, amount)
            assert torch.equal(tensor == 0, expected == 0)
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-7)


def test_a_step_is_the_proximal_operator():
    """No other point has a smaller ½‖x − γ‖² + amount·penalty."""
    net, amount = network(RESIDUAL), 0.3
    penalty = Penalty.of(ChannelGraph(net), SHORTCUT)
    start = torch.cat(penalty._scales(net)).detach().clone().double()

    def cost():
        moved = torch.cat(penalty._scales(net)).detach().double() - start
        return float(moved.square().sum()) / 2 + amount * penalty.value(net)

    penalty.shrink(net, amount)
    least, scales = cost(), [s.detach().clone() for s in penalty._scales(net)]
    random = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 0.1) * 30:
        for scale, best in zip(penalty._scales(net), scales, strict=True):
            scale.data.copy_(best + size * torch.randn(best.shape, generator=random))
        assert cost() > least - 1e-6


def test_each_group_has_its_own_amount():
    net = network(RESIDUAL)
    penalty = Penalty.of(ChannelGraph(net), SHORTCUT)
    assert penalty.groups == 14
    before = penalty.sizes(net)
    amount = torch.linspace(0, 0.2, 14)
    penalty.shrink(net, amount)
    torch.testing.assert_close(penalty.sizes(net), (before - amount).clamp(min=0))


def test_coupled_gammas_vanish_together():
    net = network(RESIDUAL)
    penalty = Penalty.of(ChannelGraph(net), SHORTCUT)
    for _ in range(300):
        penalty.shrink(net, 0.002)
        first, second = (net.layers[i].bn.weight == 0 for i in (0, 2))
        assert torch.equal(first, second)
    assert 0 < first.sum() < 8


def test_normal_leaves_what_shortcuts_couple():
    net = network(RESIDUAL)
    before = snapshot(net)
    Penalty.of(ChannelGraph(net), NORMAL).shrink(net, 0.05)
    changed = {key for key, tensor in snapshot(net).items() if not torch.equal(tensor, before[key])}
    assert changed == {(1, "scales")}


def test_a_copy_of_the_network_can_be_shrunk():
    net = network(PLAIN)
    penalty, twin = Penalty.of(ChannelGraph(net), NORMAL), copy.deepcopy(net)
    before = snapshot(net)
    penalty.shrink(twin, 0.1)
    assert all(torch.equal(tensor, before[key]) for key, tensor in snapshot(net).items())
    penalty.shrink(net, 0.1)
    for key, tensor in snapshot(twin).items():
        assert torch.equal(tensor, snapshot(net)[key])


def test_training_with_the_penalty_makes_gammas_zero():
    net = network(RESIDUAL).train()
    penalty = Penalty.of(ChannelGraph(net), SHORTCUT)
    before = penalty.value(net)
    optimiser = torch.optim.SGD(net.parameters(), 0.01)
    x = torch.rand(4, 3, 16, 16)
    for _ in range(30):
        out = net(x, collect=net.head_inputs)
        optimiser.zero_grad()
        sum(t.square().mean() for t in out.values()).backward()
        optimiser.step()
        penalty.shrink(net, 0.03)
    assert penalty.value(net) < before / 2
    assert (penalty.gammas(net) == 0).any()


def test_schedules():
    sizes = torch.arange(1.0, 101)

    def strengths(name, epoch, sizes=sizes):
        return strength(SCHEDULES[name], 2.0, epoch, 8, lambda: sizes)

    for epoch in (0, 3, 4, 7):
        late = epoch >= 4
        assert strengths("constant", epoch) == 2
        assert strengths("global-decay", epoch) == (0.02 if late else 2)
        local = torch.as_tensor(strengths("local-decay", epoch)).expand(100)
        torch.testing.assert_close(local[:85], torch.full((85,), 2.0))
        torch.testing.assert_close(local[85:], torch.full((15,), 0.02 if late else 2.0))
    # groups of equal sizes are treated alike
    equal = torch.ones(9)
    assert torch.equal(strengths("local-decay", 7, equal), torch.full((9,), 2.0))


@pytest.mark.parametrize("name", SCHEDULES)
def test_sizes_are_computed_only_where_a_schedule_needs_them(name):
    asked = []

    def sizes():
        asked.append(True)
        return torch.ones(9)

    for epoch in (0, 7):
        strength(SCHEDULES[name], 2.0, epoch, 8, sizes)
    assert asked == ([True] if name == "local-decay" else [])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_training_shrinks_by_its_schedule(name):
    net, twin = network(RESIDUAL), network(RESIDUAL)
    sparsity = SparseTraining(net, "shortcut", 0.5, SCHEDULES[name], images(net))
    penalty = Penalty.of(ChannelGraph(twin), SHORTCUT)
    for progress in (0.0, 0.5):
        sparsity.shrink(net, 0.1, progress)
        sizes = penalty.sizes(twin)
        penalty.shrink(twin, 0.1 * strength(SCHEDULES[name], 0.5, progress, 1, lambda s=sizes: s))
        torch.testing.assert_close(penalty.sizes(net), penalty.sizes(twin))
    assert sparsity.value(net) == pytest.approx(penalty.value(twin))


def images(net, count=2):
    return smooth_noise(net.image, count, torch.Generator().manual_seed(5))


def changes(net, asked, x):
    """Relative L2 at the heads for every percent that can be reached, one after the other."""
    graph, state = ChannelGraph(net), net.state()
    folding = Folding(graph, state)
    with torch.no_grad():
        whole = net(x, collect=net.head_inputs)
        for percent in range(int(100 * reachable(graph, state, asked, folding)) + 1):
            plan = select(Model(graph, state), asked.at_percent(percent / 100), folding)
            fold = folding.fold(plan.alive(graph), plan.mean)
            silenced = Network.with_state(net.cfg, masked(graph, state, fold, False))
            yield relative(silenced(x, collect=net.head_inputs), whole)


@pytest.mark.parametrize(("strategy", "share"), [("normal", 0.5), ("shortcut", 0.25)])
def test_the_free_percent_against_all_percents(strategy, share):
    net, asked = network(RESIDUAL), spec(strategy, 0.0)
    for i in (0, 1, 2):
        scales = net.layers[i].bn.weight.data
        scales[: int(share * len(scales))] *= 1e-4
    penalty = Penalty.of(ChannelGraph(net), asked)
    sparsity = look(net, penalty, asked, images(net))
    free = [change < CHANGE for change in changes(net, asked, images(net))]
    assert sparsity.percent == pytest.approx((free.index(False) - 1) / 100)
    assert sparsity.percent >= 0.9 * share - 0.1
    assert sparsity.small == pytest.approx((penalty.gammas(net) < 0.1).double().mean().item())
    assert sparsity.verdict == f"enough for percent {sparsity.percent:.2f}"


def test_a_look_changes_nothing():
    net = network(RESIDUAL).train()
    penalty = Penalty.of(ChannelGraph(net), SHORTCUT)
    before = snapshot(net)
    parameters = [id(p) for p in net.parameters()]
    look(net, penalty, SHORTCUT, images(net))
    assert net.training
    assert all(layer.training for layer in net.layers)
    assert [id(p) for p in net.parameters()] == parameters
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in snapshot(net).items())


def test_verdicts():
    net = network(PLAIN)
    penalty, x = Penalty.of(ChannelGraph(net), NORMAL), images(net)
    assert look(net, penalty, NORMAL, x).verdict == "not sparse yet"
    net.layers[1].bn.weight.data[:6] = 0
    assert look(net, penalty, NORMAL, x).verdict.startswith("enough for percent 0.3")
    # what the spec asks for decides what is enough
    assert look(net, penalty, spec("normal", 0.6), x).verdict == "not sparse yet"
    state = snapshot(net)
    # one layer gone, the others as loud as ever: nothing of the image comes through
    net.layers[1].bn.weight.data.zero_()
    sparsity = look(net, penalty, NORMAL, x)
    assert sparsity.verdict.startswith("over-regularised: a head hardly depends on the image")
    # all of them quiet, though BN makes up for it
    for i in (0, 1):
        net.layers[i].bn.weight.data.copy_(state[i, "scales"] * 0.02)
    net.layers[1].bn.running_var *= 1e-4
    net.layers[1].bn.bias.data.mul_(0.02)
    net.layers[2].conv.bias.data.zero_()
    sparsity = look(net, penalty, NORMAL, x)
    assert sparsity.verdict.startswith("over-regularised: the largest γ are only 0.0")


def test_a_look_in_one_line():
    line = SparsityProgress(0.256, 0.47, "enough for percent 0.47").line()
    assert line == (
        "26 % of γ below 1 % of the largest; --percent 0.47 would change the heads by under 1 %; "
        "enough for percent 0.47"
    )
    assert "\n" not in line


@pytest.mark.parametrize(
    "text", [NET + conv(6, batch_normalize=0) * 2 + HEAD, NET + conv(6) + HEAD]
)
def test_nothing_to_make_sparse(text):
    with pytest.raises(PlanError, match=r"x.cfg: nothing to make sparse: shortcut finds no"):
        Penalty.of(ChannelGraph(network(text)), SHORTCUT)


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_the_picture_of_the_gammas(epochs):
    random = np.random.default_rng(0)
    start = random.uniform(0.1, 2, 200)
    history = [np.maximum(start - 0.05 * epoch, 0) for epoch in range(epochs)]
    figure = gamma_history(history)
    _, below, *_ = figure.axes
    counts = below.collections[0].get_array().reshape(-1, epochs)
    np.testing.assert_allclose(counts.sum(0), 1)  # every γ is in one cell
    np.testing.assert_allclose(counts[0], [(gammas == 0).mean() for gammas in history])
    assert imread(BytesIO(png(figure))).shape[2] == 4


def test_pictures_of_nothing():
    png(gamma_history([np.zeros(3)]))
    with pytest.raises(ValueError, match="no epoch"):
        gamma_history([])
