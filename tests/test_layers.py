"""Every section type, with each of its keys, against loops written from Darknet's C."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import build, random_input

from yolo.layers import kind_of, registered
from yolo.layers.activations import ACROSS_CHANNELS, ACTIVATIONS

NET = "[net]\nwidth=6\nheight=8\nchannels=4\n"
CONV = "[convolutional]\nsize=1\nactivation=linear\nfilters="
LAYERS = sorted(name for name, kind in registered().items() if not kind.is_head)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def stair(x: float) -> float:
    whole = math.floor(x)
    return math.floor(x / 2) if whole % 2 == 0 else x - whole + math.floor(x / 2)


def middle(x: float, low: float, high: float, slope: float, line: Callable) -> float:
    """A line between two places, beyond them what goes on with another slope."""
    return slope * (x - low) if x < low else slope * (x - high) + 1 if x > high else line(x)


# activations.h, one number at a time
SCALAR = {
    "linear": lambda x: x,
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "relu": lambda x: max(x, 0),
    "relu6": lambda x: min(max(x, 0), 6),
    "logistic": sigmoid,
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "hard_mish": lambda x: x if x > 0 else x * x / 2 + x if x > -2 else 0,
    "tanh": math.tanh,
    "elu": lambda x: x if x >= 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507 * (x if x >= 0 else 1.6732 * (math.exp(x) - 1)),
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3)),
    "loggy": lambda x: 2 * sigmoid(x) - 1,
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "ramp": lambda x: max(x, 0) + 0.1 * x,
    "revleaky": lambda x: x if x > 0 else 0.1 * x,
    "plse": lambda x: middle(x, -4, 4, 0.01, lambda x: 0.125 * x + 0.5),
    "stair": stair,
    "hardtan": lambda x: min(max(x, -1), 1),
    "lhtan": lambda x: middle(x, 0, 1, 0.001, lambda x: x),
}


def activated(name, x):
    """(N, C, …) of one of Darknet's activations."""
    if name in SCALAR:
        return np.vectorize(SCALAR[name], otypes=[float])(x)
    values = np.maximum(x, 0) if name == "normalize_channels" else np.exp(x)
    if name == "normalize_channels_softmax_maxval":
        values = np.exp(x - x.max(1, keepdims=True))
    return values / (values.sum(1, keepdims=True) + 1e-4)


def normalised(t, x):
    """Batch normalisation over axis 1."""
    scales, mean, variance, biases = (
        t[name].reshape(-1, *[1] * (x.ndim - 2))
        for name in ("scales", "mean", "variance", "biases")
    )
    return scales * (x - mean) / np.sqrt(variance + 1e-5) + biases


def convolve(x, weights, stride=(1, 1), pad=0, dilation=1, groups=1):
    """(N, C, H, W) → (N, F, H', W'), place by place."""
    filters, per_group, size = weights.shape[:3]
    reach = dilation * (size - 1) + 1
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = ((n - reach) // s + 1 for n, s in zip(x.shape[2:], stride, strict=True))
    out = np.zeros((len(x), filters, height, width))
    for f in range(filters):
        first = f // (filters // groups) * per_group
        for i in range(height):
            for j in range(width):
                rows = slice(i * stride[0], i * stride[0] + reach, dilation)
                columns = slice(j * stride[1], j * stride[1] + reach, dilation)
                window = x[:, first : first + per_group, rows, columns]
                out[:, f, i, j] = (window * weights[f]).sum((1, 2, 3))
    return out


def convolution(activation="linear", bn=False, **geometry):
    def expected(t, x):
        x = convolve(x, t["weights"], **geometry)
        x = normalised(t, x) if bn else x + t["biases"][:, None, None]
        return activated(activation, x)

    return expected


def pooled(reduce, size, stride, padding):
    """Windows that start half the padding before the map; cells outside count for nothing."""

    def expected(t, x):
        sizes = x.shape[2:]
        out = np.zeros(
            (
                *x.shape[:2],
                *((n + padding - size) // s + 1 for n, s in zip(sizes, stride, strict=True)),
            )
        )
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                start = [k * s - padding // 2 for k, s in zip((i, j), stride, strict=True)]
                rows, columns = (slice(max(a, 0), a + size) for a in start)
                out[:, :, i, j] = reduce(x[:, :, rows, columns], (2, 3))
        return out

    return expected


def over_depth(channels):
    return lambda t, x: np.stack([x[:, k::channels].max(1) for k in range(channels)], 1)


def connected(activation, bn=False):
    def expected(t, x):
        x = x.reshape(len(x), -1) @ t["weights"].T
        return activated(activation, normalised(t, x) if bn else x + t["biases"])[..., None, None]

    return expected


def local(activation, size, stride, pad):
    def expected(t, x):
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        height, width = ((n - size) // stride + 1 for n in x.shape[2:])
        out = t["biases"].reshape(1, -1, height, width).repeat(len(x), 0).astype(float)
        for place, weights in enumerate(t["weights"]):
            i, j = (stride * k for k in divmod(place, width))
            window = x[:, :, i : i + size, j : j + size].reshape(len(x), -1)
            out[:, :, place // width, place % width] += window @ weights.T
        return activated(activation, out)

    return expected


def response(size, alpha, beta, kappa):
    """The running sum of normalization_layer.c, which begins one channel short."""

    def expected(t, x):
        norms = np.empty_like(x)
        norms[:, 0] = kappa + alpha * (x[:, : size // 2] ** 2).sum(1)
        for k in range(1, x.shape[1]):
            norms[:, k] = norms[:, k - 1]
            gone, come = k - (size - 1) // 2 - 1, k + size // 2
            if gone >= 0:
                norms[:, k] -= alpha * x[:, gone] ** 2
            if come < x.shape[1]:
                norms[:, k] += alpha * x[:, come] ** 2
        return x * norms**-beta

    return expected


def route(groups=1, group_id=0):
    def expected(t, *xs):
        return np.concatenate([np.split(x, groups, 1)[group_id] for x in xs], 1)

    return expected


def shortcut(normalization=None, activation="linear"):
    """shortcut_multilayer_cpu, without its reading beyond a narrower layer."""

    def expected(t, *xs):
        weights = t.get("weights", np.ones((len(xs), 1)))
        if normalization == "relu":
            weights = np.maximum(weights, 0) / (np.maximum(weights, 0).sum(0) + 1e-4)
        elif normalization == "softmax":
            e = np.exp(weights - weights.max(0))
            weights = e / (e.sum(0) + 1e-4)
        out = np.zeros_like(xs[0])
        for x, row in zip(xs, weights, strict=True):
            for k in range(min(x.shape[1], out.shape[1])):
                out[:, k] += x[:, k] * row[k % len(row)]
        return activated(activation, out)

    return expected


def product(activation="linear"):
    return lambda t, factor, x: activated(activation, factor * x)


def upsampled(stride, scale):
    return lambda t, x: scale * x.repeat(stride, 2).repeat(stride, 3)


def to_depth(stride):
    def expected(t, x):
        parts = [x[:, :, dy::stride, dx::stride] for dy in range(stride) for dx in range(stride)]
        return np.concatenate(parts, 1)

    return expected


def reorganised(shape, stride, wide_to_deep):
    """reorg_cpu for maps that it believes to be `shape` deep: (channels, height, width)."""

    def expected(t, x):
        channels, height, width = shape
        thin = channels // stride**2
        deep = np.arange(channels * height * width).reshape(shape)
        wide = np.empty((thin, height * stride, width * stride), int)
        for k, j, i in np.ndindex(*shape):
            offset = k // thin
            wide[k % thin, j * stride + offset // stride, i * stride + offset % stride] = deep[
                k, j, i
            ]
        out = np.empty((len(x), deep.size))
        flat = x.reshape(len(x), -1)
        if wide_to_deep:
            out[:, wide.ravel()] = flat
        else:
            out[:] = flat[:, wide.ravel()]
        return out

    return expected


def cropped(rows, columns, scale=1, shift=0):
    return lambda t, x: x[:, :, rows, columns] * scale + shift


def implicit(filters, atoms):
    def expected(t, x):
        return np.broadcast_to(
            t["weights"].reshape(1, filters, atoms, 1), (len(x), filters, atoms, 1)
        )

    return expected


def same(t, x):
    return x


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
    "normalization": [
        Case("[normalization]\n", response(5, 1e-4, 0.75, 1)),
        Case(CONV + "9\n[lrn]\nsize=4\nalpha=0.2\nbeta=0.5\nkappa=3\n", response(4, 0.2, 0.5, 3)),
        Case(CONV + "9\n[lrn]\nsize=1\nalpha=0.1\nkappa=4\n", response(1, 0.1, 0.75, 4)),
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
REFUSED = {"binary", "xnor", "bin_output", "antialiasing", "coordconv", "flipped"}
ELSEWHERE = {("convolutional", "share_index")}


def run(case):
    """The last section's tensors, inputs and output."""
    network = build(NET + case.text)
    layer, x = network.layers[-1], random_input(network)
    found = {-1: x} | network(x, range(len(network.layers)))
    outputs = {i: out.detach().double().numpy() for i, out in found.items()}
    tensors = {n: t.detach().double().numpy() for n, t in layer.stored().items()}
    return layer, tensors, [outputs[i] for i in layer.sources], outputs[len(network.layers) - 1]


@pytest.mark.parametrize("section_type", LAYERS)
def test_every_type_and_each_of_its_keys_has_a_case(section_type):
    asked = set()

    class Recorder(dict):
        def __contains__(self, key):
            asked.add(key)
            return dict.__contains__(self, key)

    given = set()
    for case in CASES[section_type]:
        network = build(NET + case.text)
        section = network.layers[-1].section
        recorded = dataclasses.replace(section, options=Recorder(section.options))
        kind_of(recorded)(recorded, network.layers[:-1], network.image)
        given |= set(section.options)
    tested_elsewhere = REFUSED | {key for kind, key in ELSEWHERE if kind == section_type}
    assert asked - tested_elsewhere <= given


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
        found = network(x, [0, 2])
    tensors = {n: t.detach().double().numpy() for n, t in network.layers[0].stored().items()}
    assert not network.layers[2].stored()
    expected = convolution("relu", bn=True, stride=(2, 2), pad=1)(
        tensors, found[0].double().numpy()
    )
    np.testing.assert_allclose(found[2], expected, rtol=2e-5, atol=2e-6)


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
    found = network(x, [1, 2])
    assert list(found) == [1, 2]
    first = network.layers[0](x)
    torch.testing.assert_close(found[2], first + network.layers[1](first))
