"""Cuts in front of an [l2norm]: exact, whatever the fold; and what can't be cut there."""

import re

import numpy as np
import pytest
from cfgs import conv, maxpool, net, plain, route, shortcut, upsample
from hypothesis import given
from hypothesis import strategies as st
from networks import build

from pruning.cut.folding import Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.proof.verify import prove_cut
from yolo.models.randomize import randomize

CONF = plain(12)
DEPTHWISE = plain(12, groups=12)


def text_of(bn=1, activation="relu", size=3, behind=CONF):
    """Two maps, of which the first one is normalised; `behind` ends what its classes come from."""
    more = behind.count("[") - 1  # sections in front of the heads
    return (
        net(20, 16)
        + conv(12, batch_normalize=bn, activation=activation)
        + maxpool()
        + plain(8, 3, activation="relu")
        + (route(0) + "[l2norm]\nscale=20\n" + plain(16, size) + route(4) + behind)
        + (route(2) + plain(16, 3) + route(2) + plain(12, 3))
        + f"[ssd]\nclasses=2\nloc=5,{9 + more}\nconf={7 + more},{11 + more}\nmin_sizes=4,8\n"
        + "max_sizes=6,10\naspect_ratios=2\n"
    )


def model(seed=0, **changes):
    network = build(text_of(**changes))
    randomize(network, seed)
    return network


def cut(network, mode, share, seed=0):
    """A random cut: its fold, its proof."""
    graph, random = ChannelGraph(network), np.random.default_rng(seed)
    state, alive = network.state(), np.ones(graph.size, bool)
    for family in graph.families:
        gone = random.random(family.slots) < share
        gone[random.integers(family.slots)] = False
        alive[family.groups[:, gone]] = False
    fold = Folding(graph, state, mode).fold(alive)
    cfg, small = operate(graph, state, fold)
    return fold, prove_cut(graph, state, fold, cfg, small)


@given(
    st.sampled_from([1, None]),
    st.sampled_from(["relu", "leaky", "linear"]),
    st.sampled_from([3, 1]),
    st.floats(0.05, 0.9),
    st.integers(0, 2**20),
)
def test_every_cut_is_exact(bn, activation, size, share, seed):
    network = model(seed, bn=bn, activation=activation, size=size)
    _, (masked, difference) = cut(network, "exact", share, seed)
    assert masked.value < 1e-5
    assert difference.value < 1e-5


@pytest.mark.parametrize("mode", ["auto", "mean", "none"])
def test_every_fold_is_proven(mode):
    """Only the one that ignores constants leaves the norm without its constant channel."""
    fold, (masked, _) = cut(model(), mode, 0.4)
    assert masked.value < 1e-5
    assert fold.constant_channels[fold.constraints[0].ids].any() == (mode != "none")


HEAD = plain(32, 3) + plain(4)
RELU = conv(16, activation="relu")
BODIES = {
    "a sum beside its part": RELU
    + conv(16, activation="linear")
    + shortcut(-2, activation="relu")
    + route(0, 2),
    "scaled and not": RELU + upsample(1, scale=2) + route(0, 1),
    "negated": RELU + upsample(1, scale=-1),
    "weighed": RELU + RELU + shortcut(-2, weights_type="per_channel"),
    "two families": RELU + route(-1) + RELU + route(0, 2),
    "several windows": RELU + maxpool(3, 1) + route(0, 1),
    "parts": RELU + conv(16, groups=2, activation="relu"),
    "zero where it is normalised": plain(16, 3) + "[activation]\nactivation=relu\n",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("mode", ["exact", "auto"])
def test_whatever_leads_to_the_norm(body, mode):
    """Constants may arrive several times, scaled, negated, or as 0, beside another consumer."""
    text = net(12, 10) + BODIES[body]
    last = text.count("[") - 2
    text += "[l2norm]\nscale=5\n" + HEAD + route(last) + HEAD
    for seed in range(4):
        network = build(text)
        randomize(network, seed)
        if body == "weighed":
            weights = network.state()[2]["weights"]
            weights[1, ::2] *= -1
        _, (masked, _) = cut(network, mode, 0.5, seed)
        assert masked.value < 1e-5


@pytest.mark.parametrize("factor", [0.0, 1e-5])
def test_factors_that_silence_what_is_cut(factor):
    """The norm needs its constant channel all the same."""
    network = model()
    network.state()[4]["factors"][:] = factor
    _, (masked, _) = cut(network, "auto", 0.5)
    assert masked.value < 1e-5


def test_the_constant_channel_keeps_the_norm():
    """Its square is the sum of the squares of what is cut."""
    network = model()
    fold, _ = cut(network, "auto", 0.5)
    (constraint,) = fold.constraints
    source, ids = constraint.source, constraint.ids
    gone = fold.constants.silenced[source].numpy()[~fold.alive[ids]]
    kept = fold.constant_values[ids[fold.constant_channels[ids]]]
    assert np.square(kept).sum() == pytest.approx(np.square(gone).sum(), rel=1e-5)
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"activation": "mish"}, r"belongs to a \[convolutional\] with activation=mish"),
        ({"behind": shortcut(4) + CONF}, r"in front of a \[shortcut\]"),
        ({"behind": "[l2norm]\n" + CONF}, r"in front of a \[l2norm\]"),
        ({"behind": DEPTHWISE + CONF}, r"in front of a \[convolutional\]"),
    ],
)
def test_what_can_not_stay_exact_is_pinned(changes, reason):
    graph = ChannelGraph(build(text_of(**changes)))
    assert re.search(reason, graph.reason(0))
