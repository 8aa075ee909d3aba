"""What is done with the constants of silenced channels: constant channels and mean folds."""

import numpy as np
import pytest
import torch
from cfgs import connected, conv, maxpool, net, route, shortcut, upsample
from random_cfg import sample
from surgeries import carried, compared, cut

from pruning.cut.borders import mean_shift
from pruning.cut.folding import Folding
from pruning.graph.channels import ChannelGraph
from pruning.graph.rules import taps
from yolo.cfg import Cfg
from yolo.network import Network

NET = net(9, 7)


def brute_mean(layer, weights, values):
    """The mean output of a convolution, in loops, over a map that is `values` everywhere."""
    shape, out = layer.inputs[0], layer.out_shape
    n, per_part, size, _ = weights.shape
    total = np.zeros(n)
    margin = layer.padding * layer.dilation
    for y in range(out.height):
        for x in range(out.width):
            for dy in range(size):
                for dx in range(size):
                    row = y * layer.stride[0] - margin + dy * layer.dilation
                    column = x * layer.stride[1] - margin + dx * layer.dilation
                    if 0 <= row < shape.height and 0 <= column < shape.width:
                        for o in range(n):
                            part = o // (n // layer.groups) * per_part
                            total[o] += weights[o, :, dy, dx] @ values[part : part + per_part]
    return total / out.area


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride_x": 2, "size": 5},
        {"dilation": 2},
        {"dilation": 3, "groups": 2},
        {"size": 1, "pad": 0, "padding": 1, "stride": 2},
        {"size": 3, "pad": 0, "padding": 2},
        {"size": 2, "pad": 0, "padding": 1, "stride": 3},
        {"size": 5, "pad": 0, "padding": 1, "groups": 2},
        {"size": 3, "pad": 0},
    ],
    ids=str,
)
def test_the_mean_fold_weighs_every_tap_by_how_often_it_lies_inside(options):
    network = Network(Cfg((NET + conv(4) + conv(6, **options)).encode()))
    layer = network.layers[1]
    random = np.random.default_rng(0)
    weights, values = random.normal(size=layer.conv.weight.shape), random.normal(size=4)
    added = taps(layer, torch.from_numpy(weights), torch.from_numpy(values))
    shift = mean_shift(layer, added)
    np.testing.assert_allclose(shift, brute_mean(layer, weights, values), rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2}, {"groups": 2}], ids=str)
def test_the_border_loss_is_the_energy_that_the_mean_fold_gets_wrong(options):
    text = NET + conv(4) + conv(6, **options) + conv(2)
    case = sample(text)
    graph = ChannelGraph(case.network)
    folding = Folding(graph, case.state, "mean")
    family = graph.families[0]
    alive = np.ones(graph.size, bool)
    alive[family.groups[:, 1:]] = False
    values = folding.constants.silenced[0] * torch.from_numpy(~alive[graph.outputs[0]])
    layer = case.network.layers[1]
    ones = torch.ones(1, 4, 7, 9, dtype=torch.float64)
    exact = torch.nn.functional.conv2d(
        ones * values[:, None, None],
        case.state[1]["weights"],
        None,
        layer.stride,
        layer.padding * layer.dilation,
        layer.dilation,
        layer.groups,
    )
    expected = exact.var((0, 2, 3), correction=0).sum()
    assert folding.border_loss(family, alive) == pytest.approx(float(expected), rel=1e-9)


def test_the_channel_loss_is_the_energy_that_a_channel_brings():
    case = sample(NET + conv(4) + conv(6, groups=2) + conv(2))
    graph = ChannelGraph(case.network)
    deviation = np.zeros(graph.size)
    slot = graph.families[0].groups[:, 1]
    deviation[slot] = 2, 3
    first, second = (
        case.state[1]["weights"][rows, 1].square().sum() for rows in (slice(3), slice(3, 6))
    )
    loss = Folding(graph, case.state).channel_loss(slot, deviation)
    assert loss == pytest.approx(float(first * 4 + second * 9), rel=1e-9)


ONLY_EXACT = {
    "a residual net with mish": conv(4, activation="mish") * 2
    + conv(4, activation="mish")
    + shortcut(-2, activation="mish")
    + conv(5),
    "pools and upsampling": conv(6)
    + maxpool(2, 1)
    + "[upsample]\nscale=2\n[local_avgpool]\nsize=3\nstride=2\n"
    + conv(5),
    "squeeze and excite": conv(6)
    + "[avgpool]\n"
    + conv(4, size=1)
    + conv(6, size=1, activation="logistic")
    + "[scale_channels]\nfrom=0\n"
    + conv(5),
    "a grouped route and a concatenation": conv(8)
    + route(-1, groups=2, group_id=1)
    + conv(4)
    + route(-1, 0)
    + conv(5),
    "a grouped convolution": conv(8) + conv(8, groups=2) + conv(5),
    "depthwise with a multiplier": conv(4)
    + conv(8, groups=4, batch_normalize=0, stride=2)
    + conv(5),
    "space to depth": conv(4)
    + "[maxpool]\nsize=2\nstride=1\npadding=0\n"
    + "[reorg3d]\nstride=2\n"
    + conv(5),
    "a padded 1x1": conv(6) + conv(5, size=1, pad=0, padding=1, stride=2),
    "no normalisation": conv(6, batch_normalize=0) + conv(5, batch_normalize=0),
    "a normalisation of its own": conv(6)
    + "[batchnorm]\n[activation]\nactivation=mish\n"
    + conv(5),
    "places of their own": conv(4) + "[local]\nfilters=3\nsize=3\npad=1\nactivation=linear\n",
    "fully connected": conv(4) + connected(5),
}


@pytest.mark.parametrize("name", ONLY_EXACT)
def test_an_exact_cut_of(name):
    net = NET.replace("9", "8").replace("7", "8") if "depth" in name else NET
    net = net.replace("width=8\nheight=8", "width=7\nheight=7") if "space" in name else net
    cutting = cut(sample(net + ONLY_EXACT[name]), "exact")
    assert carried(cutting)
    assert not cutting.fold.alive.all()
    assert compared(cutting, folded=False) < 1e-12


def test_the_mean_fold_is_off_where_padding_is_seen():
    cutting = cut(sample(NET + ONLY_EXACT["a residual net with mish"]), "mean")
    assert compared(cutting, folded=True) < 1e-12
    assert compared(cutting, folded=False) > 1e-3


def test_without_padding_every_fold_is_exact_and_needs_no_constant_channel():
    case = sample(NET + conv(6) + conv(5, size=1) + conv(4, pad=0))
    for mode in ("auto", "exact", "mean"):
        cutting = cut(case, mode)
        assert not cutting.fold.constant_channels.any()
        assert compared(cutting, folded=False) < 1e-12


def test_every_channel_of_a_group_counts_where_a_group_has_several():
    """A group has two channels behind a depthwise multiplier; only the first one isn't 0."""
    case = sample(NET + conv(4) + conv(8, groups=4, activation="relu") + conv(5))
    case.state[1]["biases"][:] = torch.tensor([0.5, -0.5]).repeat(4)
    cutting = cut(case, "exact")
    assert cutting.fold.constant_channels.sum() == 1
    assert compared(cutting, folded=False) < 1e-12


def test_a_constant_that_arrives_as_zero_carries_nothing():
    """Next to nothing is left to scale, so the mean fold takes over, and says so."""
    case = sample(NET + conv(6) + upsample(1, scale=0.0001) + conv(5))
    case.state[0]["biases"][:] = 2.5
    cutting = cut(case, "exact")
    assert not cutting.fold.constant_channels.any()
    assert not carried(cutting)
    assert compared(cutting, folded=True) < 1e-12
    assert compared(cutting, folded=False) > 1e-9


def test_a_constant_channel_of_stairs_carries_what_it_can():
    """stair(1) is 0: its constant channels are given another shift."""
    case = sample(NET + conv(6, activation="stair") + conv(5))
    case.state[0]["biases"][:] = 2.5
    cutting = cut(case, "exact")
    assert carried(cutting)
    assert compared(cutting, folded=False) < 1e-12


def test_a_channel_that_arrives_as_zero_leaves_the_work_to_another():
    """The weights of the shortcut turn its first channel off, the others stay useful."""
    weighed = shortcut(0, weights_type="per_channel", weights_normalization="relu")
    case = sample(NET + conv(6) + conv(6) + weighed + conv(5))
    case.state[2]["weights"][:] = torch.tensor([-1.0, 1, 1, 1, 1, 1])
    graph = ChannelGraph(case.network)
    folding = Folding(graph, case.state, "exact")
    alive = np.ones(graph.size, bool)
    ids = graph.outputs[0]
    alive[ids[[0, 2, 3]]] = False
    assert folding.weak[ids].tolist() == [True, *[False] * 5]
    assert folding.fold(alive).constant_channels[ids].tolist() == [n == 2 for n in range(6)]


def test_a_part_has_a_constant_channel_for_everything_it_feeds():
    """Section 1 alone feeds a padded convolution, beside the grouped one."""
    case = sample(
        NET + conv(4) + conv(4) + conv(8) + route(0, 1, 2) + conv(4, groups=2)
        + route(1) + conv(4) + route(-1, 4)
    )  # fmt: skip
    for seed in range(8):
        cutting = cut(case, "exact", seed=seed)
        assert compared(cutting, folded=False) < 1e-12


def test_two_families_that_begin_in_one_section_fold_each_in_its_own_way():
    text = (
        NET + conv(16) + conv(8) + conv(8) + route(-1, -2)
        + shortcut(0) + conv(5)
    )  # fmt: skip
    case = sample(text)
    graph = ChannelGraph(case.network)
    folding = Folding(graph, case.state, "auto")
    first, second = graph.families
    alive = np.ones(graph.size, bool)
    for family in graph.families:
        alive[family.groups[:, 3:]] = False
    fold = folding.fold(alive, (first.name,))
    assert not fold.constant_channels[first.groups].any()
    assert fold.constant_channels[second.groups].sum() == 1
