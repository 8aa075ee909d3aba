"""Cuts in front of an [l2norm]: exact, whatever the fold; and what can't be cut there."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import build

from pruning.cut.folding import Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.proof.verify import prove_cut
from yolo.models.randomize import randomize

MODEL = """[net]
width=20
height=16
channels=3

[convolutional]
filters=12
size=3
pad=1
{bn}activation={activation}

[maxpool]
size=2
stride=2

[convolutional]
filters=8
size=3
pad=1
activation=relu

[route]
layers=0

[l2norm]
scale=20

[convolutional]
filters=16
{size}activation=linear

[route]
layers=4

{behind}
[route]
layers=2

[convolutional]
filters=16
size=3
pad=1
activation=linear

[route]
layers=2

[convolutional]
filters=12
size=3
pad=1
activation=linear

[ssd]
classes=2
loc=5,9
conf=7,11
min_sizes=4,8
max_sizes=6,10
aspect_ratios=2
"""
CONF = "[convolutional]\nfilters=12\nsize=1\nactivation=linear\n"
SHORTCUT = "[shortcut]\nfrom=4\nactivation=linear\n"
DEPTHWISE = "[convolutional]\nfilters=12\ngroups=12\nactivation=linear\n"
BN, PADDED = "batch_normalize=1\n", "size=3\npad=1\n"


def model(bn=BN, activation="relu", size=PADDED, behind=CONF, seed=0):
    network = build(MODEL.format(bn=bn, activation=activation, size=size, behind=behind))
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
    st.sampled_from([BN, ""]),
    st.sampled_from(["relu", "leaky", "linear"]),
    st.sampled_from([PADDED, "size=1\n"]),
    st.floats(0.05, 0.9),
    st.integers(0, 2**20),
)
def test_every_cut_is_exact(bn, activation, size, share, seed):
    network = model(bn, activation, size, seed=seed)
    _, (masked, difference) = cut(network, "exact", share, seed)
    assert masked.value < 1e-5
    assert difference.value < 1e-5


@pytest.mark.parametrize("mode", ["auto", "mean", "none"])
def test_every_fold_is_proven(mode):
    """Only the one that ignores constants leaves the norm without its constant channel."""
    fold, (masked, _) = cut(model(), mode, 0.4)
    assert masked.value < 1e-5
    assert fold.carriers[fold.constraints[0].ids].any() == (mode != "none")


HEAD = """
[convolutional]
filters=32
size=3
pad=1
activation=linear

[convolutional]
filters=4
size=1
activation=linear
"""


def plain(filters=16, bn=BN, activation="relu"):
    return f"[convolutional]\n{bn}filters={filters}\nsize=3\npad=1\nactivation={activation}\n"


BODIES = {
    "a sum beside its part": plain()
    + plain(activation="linear")
    + "[shortcut]\nfrom=-2\nactivation=relu\n[route]\nlayers=0,2\n",
    "scaled and not": plain() + "[upsample]\nstride=1\nscale=2\n[route]\nlayers=0,1\n",
    "negated": plain() + "[upsample]\nstride=1\nscale=-1\n",
    "weighed": plain()
    + plain()
    + "[shortcut]\nfrom=-2\nweights_type=per_channel\nactivation=linear\n",
    "two families": plain() + "[route]\nlayers=-1\n" + plain() + "[route]\nlayers=0,2\n",
    "several windows": plain() + "[maxpool]\nsize=3\nstride=1\n[route]\nlayers=0,1\n",
    "parts": plain() + plain().replace("filters=16", "filters=16\ngroups=2"),
    "zero where it is normalised": plain(bn="", activation="linear")
    + "[activation]\nactivation=relu\n",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("mode", ["exact", "auto"])
def test_whatever_leads_to_the_norm(body, mode):
    """Constants may arrive several times, scaled, negated, or as 0, beside another consumer."""
    text = "[net]\nwidth=12\nheight=10\nchannels=3\n" + BODIES[body]
    last = text.count("[") - 2
    text += "[l2norm]\nscale=5\n" + HEAD + f"[route]\nlayers={last}\n" + HEAD
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
    kept = fold.emission[ids[fold.carriers[ids]]]
    assert np.square(kept).sum() == pytest.approx(np.square(gone).sum(), rel=1e-5)
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"activation": "mish"}, r"belongs to a \[convolutional\] with activation=mish"),
        (
            {"behind": "[shortcut]\nfrom=4\nactivation=linear\n" + CONF},
            r"in front of a \[shortcut\]",
        ),
        ({"behind": "[l2norm]\n" + CONF}, r"in front of a \[l2norm\]"),
        (
            {"behind": DEPTHWISE + CONF},
            r"in front of a \[convolutional\]",
        ),
    ],
)
def test_what_can_not_stay_exact_is_pinned(changes, reason):
    asked = {"bn": BN, "activation": "relu", "size": PADDED, "behind": CONF} | changes
    text = MODEL.format(**asked)
    more = asked["behind"].count("[") - 1  # sections in front of the heads
    text = text.replace("5,9", f"5,{9 + more}").replace("7,11", f"{7 + more},{11 + more}")
    graph = ChannelGraph(build(text))
    assert re.search(reason, graph.reason(0))
