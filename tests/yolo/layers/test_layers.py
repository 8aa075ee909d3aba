"""Every section type, with each of its keys, against loops written from Darknet's C."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from cfgs import net
from networks import build, keys_asked, random_input
from reference import (
    SCALAR,
    activated,
    bayesian_connected,
    bayesian_convolution,
    connected,
    convolution,
    cropped,
    implicit,
    local,
    normalised,
    over_depth,
    pooled,
    product,
    reorganised,
    response,
    route,
    same,
    shortcut,
    sphere,
    to_depth,
    upsampled,
)

from yolo.layers import registered
from yolo.layers.activations import ACROSS_CHANNELS, ACTIVATIONS
from yolo.network import Network

NET = net(6, 8, 4)
CONV = "[convolutional]\nsize=1\nactivation=linear\nfilters="
LAYERS = sorted(name for name, kind in registered().items() if not kind.is_head)


@dataclass(frozen=True)
class Case:
    """The last section of `text` against (its tensors, its inputs) → its output."""

    text: str
    expected: Callable

    def __str__(self) -> str:
        return self.text.strip().rsplit("[", 1)[1].replace("]", "").replace("\n", " ")


def conv(options, **kwargs):
    return Case(f"[convolutional]\n{options}", convolution(**kwargs))


def pool(kind, options, *geometry):
    reduce = np.max if kind == "maxpool" else np.mean
    return Case(f"[{kind}]\n{options}", pooled(reduce, *geometry))


def pools(kind):
    return [
        pool(kind, "", 1, (1, 1), 0),
        pool(kind, "stride=2\n", 2, (2, 2), 1),
        pool(kind, "size=2\n", 2, (1, 1), 1),
        pool(kind, "size=3\nstride=2\n", 3, (2, 2), 2),
        pool(kind, "size=5\nstride=1\n", 5, (1, 1), 4),
        pool(kind, "size=2\nstride=2\npadding=0\n", 2, (2, 2), 0),
        pool(kind, "size=3\nstride=2\npadding=3\n", 3, (2, 2), 3),
        pool(kind, "size=2\nstride=3\npadding=0\n", 2, (3, 3), 0),
        pool(kind, "size=3\nstride_x=1\nstride_y=2\n", 3, (2, 1), 2),
        pool(kind, "size=2\nstride=2\nstride_y=1\n", 2, (1, 2), 1),
    ]


TWO = CONV + "4\n" + CONV + "4\n"
THREE = TWO + CONV + "4\n"
POOLED = CONV + "4\n[avgpool]\n"
PLANE = CONV + "4\n" + CONV + "1\n"
WEIGHTS = ["weights_type=per_feature\n", "weights_type=per_layer\n", "weights_type=per_channel\n"]

CASES = {
    "convolutional": [
        conv("filters=3\nactivation=linear\n"),
        conv("", activation="logistic"),
        conv("filters=5\nsize=3\npad=1\nactivation=leaky\n", activation="leaky", pad=1),
        conv("size=3\npad=1\npadding=2\nactivation=relu\n", activation="relu", pad=1),
        conv("size=3\npadding=2\nactivation=linear\n", pad=2),
        conv("size=5\nactivation=linear\n"),
        conv("size=2\nstride=2\nactivation=linear\n", stride=(2, 2)),
        conv("size=3\npad=1\nstride_x=2\nactivation=linear\n", stride=(1, 2), pad=1),
        conv("size=3\npad=1\nstride=3\nstride_y=2\nactivation=linear\n", stride=(2, 3), pad=1),
        conv("size=3\npad=1\ndilation=2\nactivation=linear\n", pad=2, dilation=2),
        conv("size=1\ndilation=2\nactivation=linear\n"),
        conv("filters=6\ngroups=2\nsize=3\nactivation=linear\n", groups=2),
        conv("filters=8\ngroups=4\nsize=3\npad=1\nactivation=linear\n", groups=4, pad=1),
        conv("filters=6\nbatch_normalize=1\nactivation=mish\n", activation="mish", bn=True),
        conv("filters=6\ncbn=1\nactivation=linear\n", bn=True),
        *(conv(f"filters=5\nactivation={name}\n", activation=name) for name in ACTIVATIONS),
    ],
    "connected": [
        Case("[connected]\noutput=5\nactivation=linear\n", connected("linear")),
        Case("[connected]\n", connected("logistic")),
        Case(POOLED + "[connected]\noutput=3\nactivation=relu\n", connected("relu")),
        Case(
            "[connected]\noutput=5\nbatch_normalize=1\nactivation=leaky\n",
            connected("leaky", bn=True),
        ),
    ],
    "bayesian_convolutional": [
        Case(
            "[bayesian_convolutional]\nfilters=3\nactivation=relu\nclip_var=0.1\n",
            bayesian_convolution("relu"),
        ),
        Case(
            "[bayesian_convolutional]\nfilters=6\nsize=3\npad=1\ngroups=2\nprior=ghs\ntau0=0.1\n"
            "batch_normalize=1\nactivation=leaky\n",
            bayesian_convolution("leaky", bn=True, pad=1, groups=2),
        ),
        Case(
            "[bayesian_convolutional]\nfilters=4\nsize=3\npadding=2\nstride=2\nstride_x=1\n"
            "stride_y=3\ndilation=1\ncbn=0\nactivation=linear\n",
            bayesian_convolution(stride=(3, 1), pad=2),
        ),
    ],
    "bayesian_connected": [
        Case("[bayesian_connected]\noutput=5\nactivation=linear\n", bayesian_connected("linear")),
        Case(
            "[bayesian_connected]\nprior=ghs\ntau0=1\noutput=5\nbatch_normalize=1\nclip_var=1\n"
            "activation=leaky\n",
            bayesian_connected("leaky", bn=True),
        ),
    ],
    "batchnorm": [Case("[batchnorm]\n", normalised)],
    "activation": [
        Case("[activation]\n", same),
        *(
            Case(f"[activation]\nactivation={name}\n", lambda t, x, n=name: activated(n, x))
            for name in SCALAR
        ),
    ],
    "maxpool": [
        *pools("maxpool"),
        Case("[maxpool]\nmaxpool_depth=1\n", over_depth(1)),
        Case("[maxpool]\nmaxpool_depth=1\nout_channels=2\nstride=2\n", over_depth(2)),
        Case("[maxpool]\nmaxpool_depth=1\nout_channels=3\nsize=3\n", over_depth(3)),
    ],
    "local_avgpool": pools("local_avgpool"),
    "avgpool": [Case("[avgpool]\n", lambda t, x: x.mean((2, 3), keepdims=True))],
    "route": [
        Case(TWO + "[route]\nlayers=-1\n", route()),
        Case(TWO + "[route]\nlayers=-1,0,-1\n", route()),
        Case(TWO + "[route]\nlayers=-1,-2\ngroups=2\ngroup_id=1\n", route(2, 1)),
        Case(TWO + "[route]\nlayers=0\ngroups=4\n", route(4, 0)),
        Case(TWO + CONV + "6\n[route]\nlayers=-1,-2\ngroups=2\n", route(2, 0)),
    ],
    "shortcut": [
        Case(TWO + "[shortcut]\nfrom=-2\n", shortcut()),
        Case(TWO + "[shortcut]\nfrom=0\nactivation=leaky\n", shortcut(activation="leaky")),
        Case(THREE + "[shortcut]\nfrom=-3, 1\n", shortcut()),
        Case(CONV + "6\n" + CONV + "3\n[shortcut]\nfrom=-2\n", shortcut()),
        Case(CONV + "3\n" + CONV + "6\n[shortcut]\nfrom=-2\n", shortcut()),
        *(Case(f"{THREE}[shortcut]\nfrom=0,1\n{kind}", shortcut()) for kind in WEIGHTS),
        *(
            Case(
                f"{CONV}3\n{CONV}6\n{CONV}5\n[shortcut]\nfrom=-2,-3\n{kind}"
                f"weights_normalization={name}\n",
                shortcut(name.removeprefix("avg_")),
            )
            for kind in WEIGHTS
            for name in ("relu", "avg_relu", "softmax")
        ),
    ],
    "scale_channels": [
        Case(POOLED + "[scale_channels]\nfrom=-2\n", product()),
        Case(POOLED + "[scale_channels]\nfrom=0\nactivation=swish\n", product("swish")),
        Case(PLANE + "[scale_channels]\nfrom=-2\nscale_wh=1\n", product()),
    ],
    "sam": [
        Case(TWO + "[sam]\nfrom=-2\n", product()),
        Case(TWO + "[sam]\nfrom=0\nactivation=mish\n", product("mish")),
    ],
    "upsample": [
        Case("[upsample]\n", upsampled(2, 1)),
        Case("[upsample]\nstride=3\nscale=0.5\n", upsampled(3, 0.5)),
    ],
    "reorg": [
        Case("[reorg]\nstride=2\n", reorganised((4, 8, 6), 2, True)),
        Case(CONV + "8\n[reorg]\nstride=2\n", reorganised((8, 8, 6), 2, True)),
        Case(CONV + "8\n[reorg]\nstride=2\nreverse=1\n", reorganised((8, 8, 6), 2, False)),
        Case("[reorg]\n", same),
    ],
    "reorg3d": [
        Case("[reorg3d]\nstride=2\n", to_depth(2)),
        Case("[reorg3d]\nstride=2\n", reorganised((16, 4, 3), 2, True)),
        Case(CONV + "16\n[reorg3d]\nstride=2\nreverse=1\n", reorganised((4, 16, 12), 2, False)),
        Case("[reorg3d]\n", same),
    ],
    "crop": [
        Case("[crop]\n", cropped(slice(3, 4), slice(2, 3), 2, -1)),
        Case("[crop]\ncrop_width=3\ncrop_height=6\n", cropped(slice(1, 7), slice(1, 4), 2, -1)),
        Case("[crop]\ncrop_width=4\ncrop_height=8\nnoadjust=1\n", cropped(slice(8), slice(1, 5))),
    ],
    "l2norm": [
        Case("[l2norm]\n", sphere(1e-10)),
        Case("[l2norm]\nscale=3\neps=0.5\n", sphere(0.5)),
    ],
    "normalization": [
        Case("[normalization]\n", response(5, 1e-4, 0.75, 1)),
        Case(CONV + "9\n[lrn]\nsize=4\nalpha=0.2\nbeta=0.5\nkappa=3\n", response(4, 0.2, 0.5, 3)),
        Case(CONV + "9\n[lrn]\nsize=1\nalpha=0.1\nkappa=4\n", response(1, 0.1, 0.75, 4)),
        Case(CONV + "9\n[lrn]\nsize=18\nalpha=1\nbeta=0.5\n", response(18, 1, 0.5, 1)),
    ],
    "local": [
        Case("[local]\n", local("logistic", 1, 1, 0)),
        Case("[local]\nfilters=3\nsize=3\npad=1\nactivation=leaky\n", local("leaky", 3, 1, 1)),
        Case("[local]\nfilters=2\nsize=2\nstride=2\nactivation=linear\n", local("linear", 2, 2, 0)),
    ],
    "implicit": [
        Case("[implicit]\n", implicit(128, 1)),
        Case("[implicit]\nfilters=5\natoms=3\n", implicit(5, 3)),
    ],
    "dropout": [Case("[dropout]\nprobability=.9\n", same)],
    "cost": [Case("[cost]\ntype=sse\n", same)],
}
# Keys that make a section one that is refused: tests/test_cfg.py
REFUSED = {
    "binary",
    "xnor",
    "bin_output",
    "antialiasing",
    "coordconv",
    "flipped",
    "dontload",
    "dontloadscales",
}
ELSEWHERE = {("convolutional", "share_index"), ("bayesian_convolutional", "share_index")}


def run(case):
    """The last section's tensors, inputs and output."""
    network = build(NET + case.text)
    layer, x = network.layers[-1], random_input(network)
    computed = {-1: x} | network(x, range(len(network.layers)))
    outputs = {i: out.detach().double().numpy() for i, out in computed.items()}
    tensors = {n: t.detach().double().numpy() for n, t in layer.stored().items()}
    return layer, tensors, [outputs[i] for i in layer.sources], outputs[len(network.layers) - 1]


@pytest.mark.parametrize("section_type", LAYERS)
def test_every_type_and_each_of_its_keys_has_a_case(section_type):
    networks = [build(NET + case.text) for case in CASES[section_type]]
    asked = set().union(*map(keys_asked, networks))
    covered = set().union(*(network.layers[-1].section.options for network in networks))
    tested_elsewhere = REFUSED | {key for kind, key in ELSEWHERE if kind == section_type}
    assert asked - tested_elsewhere <= covered


def test_every_activation_has_a_case():
    assert set(ACTIVATIONS) == set(SCALAR) | ACROSS_CHANNELS


@pytest.mark.parametrize(
    ("section_type", "case"), [(t, c) for t, cases in CASES.items() for c in cases], ids=str
)
def test_forward(section_type, case):
    layer, tensors, inputs, out = run(case)
    assert layer.section.type == section_type
    shape = layer.out_shape
    assert out.shape == (2, shape.channels, shape.height, shape.width)
    expected = np.asarray(case.expected(tensors, *inputs)).reshape(out.shape)
    np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", SCALAR)
def test_an_activation_far_from_zero(name):
    x = np.float32(
        [-100, -30, -6, -4.5, -4, -3.5, -2, -1, -0.5, 0, 0.5, 1, 2, 3.5, 4, 4.5, 6, 30, 100]
    )
    expected = [SCALAR[name](float(value)) for value in x]
    np.testing.assert_allclose(
        ACTIVATIONS[name](torch.from_numpy(x)), expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("index", ["0", "-2"])
def test_share_index_uses_another_sections_tensors(index):
    text = "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=linear\n"
    shared = f"{text}stride=2\nshare_index={index}\n".replace("=linear", "=relu")
    network = build(NET + text + "[dropout]\n" + shared)
    x = random_input(network)
    with torch.no_grad():
        outputs = network(x, [0, 2])
    tensors = {n: t.detach().double().numpy() for n, t in network.layers[0].stored().items()}
    assert not network.layers[2].stored()
    expected = convolution("relu", bn=True, stride=(2, 2), pad=1)(
        tensors, outputs[0].double().numpy()
    )
    np.testing.assert_allclose(outputs[2], expected, rtol=2e-5, atol=2e-6)


def test_dropout_drops_only_in_training():
    network = build(NET + "[dropout]\nprobability=0.25\n")
    ones = torch.ones(50, 4, 8, 6)
    assert torch.equal(network(ones)[0], ones)
    out = network.train()(ones)[0]
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_batch_normalisation_trains_with_darknets_momentum():
    network = build(NET + "[batchnorm]\n").train()
    before = network.layers[0].bn.running_mean.clone()
    x = random_input(network)
    network(x)
    expected = 0.9 * before + 0.1 * x.mean((0, 2, 3))
    torch.testing.assert_close(network.layers[0].bn.running_mean, expected)


@pytest.mark.parametrize(
    ("text", "macs"),
    [
        ("[convolutional]\nfilters=6\nsize=3\npad=1\ngroups=2\n", 48 * 6 * 2 * 9),
        ("[convolutional]\nfilters=6\nstride=2\n", 12 * 6 * 4),
        ("[connected]\noutput=5\n", 5 * 192),
        ("[local]\nfilters=3\nsize=2\nstride=2\n", 12 * 3 * 4 * 4),
        (TWO + "[shortcut]\nfrom=-2\nweights_type=per_channel\n", 2 * 48 * 16 + 2 * 192),
        ("[maxpool]\n", 0),
    ],
)
def test_macs_are_multiplications_with_weights(text, macs):
    assert build(NET + text).macs() == macs


WEIGHTS = {  # sections behind six channels, and True where outputs see several; the parts
    "filters": ("[convolutional]\nfilters=4\nsize=3\npad=1\n", True, 1),
    "parts": ("[convolutional]\nfilters=6\ngroups=3\n", True, 3),
    "depthwise": ("[convolutional]\nfilters=12\ngroups=6\n", False, 6),
    "bayesian, depthwise": ("[bayesian_convolutional]\nfilters=6\ngroups=6\n", False, 6),
    "connected": ("[connected]\noutput=4\n", True, 1),
    "bayesian, connected": ("[bayesian_connected]\noutput=4\n", True, 1),
    "local": ("[local]\nfilters=4\nsize=2\n", True, 1),
    "passing": ("[maxpool]\nsize=2\nstride=2\n", False, 1),
    "slices": ("[route]\nlayers=-1\ngroups=2\n", False, 2),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_which_sections_mix_their_input_channels(name):
    text, mixes, groups = WEIGHTS[name]
    layer = build(NET + CONV + "6\n" + text).layers[1]
    assert (layer.mixes, layer.groups) == (mixes, groups)


def test_a_convolution_of_one_channel_mixes_all_that_there_is():
    assert build(net(4, 4, channels=1) + "[convolutional]\n").layers[0].mixes


@pytest.mark.parametrize("section_type", LAYERS)
def test_every_section_has_its_activation_or_none(section_type):
    layer = build(NET + CASES[section_type][0].text).layers[-1]
    assert layer.activation is dict(layer.named_children()).get("activation")
    asks = "activation" in keys_asked(build(NET + CASES[section_type][0].text))
    assert (layer.activation is not None) == asks


FUSIBLE = (
    "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=mish\n"
    "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nshare_index=0\n"
    "activation=leaky\n[batchnorm]\n[connected]\noutput=3\nbatch_normalize=1\nactivation=linear\n"
)


def test_a_fused_network_computes_the_same_and_leaves_the_original():
    network = build(NET + FUSIBLE)
    x = random_input(network)
    before = {
        i: {n: t.clone() for n, t in tensors.items()} for i, tensors in network.state().items()
    }
    fused = network.fused()
    torch.testing.assert_close(fused(x)[3], network(x)[3], rtol=1e-4, atol=1e-5)
    assert [layer.bn is None for i, layer in enumerate(fused.layers) if i != 2] == [True] * 3
    for index, tensors in network.state().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, before[index][name])


def test_a_network_returns_the_sections_asked_for():
    network = build(NET + TWO + "[shortcut]\nfrom=-2\n[cost]\n")
    x = random_input(network)
    assert network.heads == [2]
    outputs = network(x, [1, 2])
    assert list(outputs) == [1, 2]
    first = network.layers[0](x)
    torch.testing.assert_close(outputs[2], first + network.layers[1](first))


def test_parameters_are_what_training_changes():
    network = build(f"{NET}{CONV}6\nbatch_normalize=1\n{CONV}5\n")
    assert network.count_parameters() == (6 + 6 + 6 * 4) + (5 + 5 * 6)
    assert network.count_floats() == network.count_parameters() + 6 + 6
    assert sum(p.numel() for p in network.parameters()) == network.count_parameters()


def test_a_state_is_taken_over_without_a_copy():
    network = build(f"{NET}{CONV}6\nbatch_normalize=1\n")
    twin = Network.with_state(network.cfg, network.state())
    for name, tensor in network.state()[0].items():
        assert twin.state()[0][name].data_ptr() == tensor.data_ptr()
    x = random_input(network)
    assert torch.equal(twin(x)[0], network(x)[0])
