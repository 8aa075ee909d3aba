"""Darknet's layers as plain numpy, written from its C: what the tests compare ours with.

Each function gives (a section's tensors by name, its inputs …) → its output.
"""

import math
from collections.abc import Callable

import numpy as np


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def stair(x: float) -> float:
    whole = math.floor(x)
    return math.floor(x / 2) if whole % 2 == 0 else x - whole + math.floor(x / 2)


def middle(x: float, low: float, high: float, slope: float, line: Callable) -> float:
    """A line between two points, beyond them what goes on with another slope."""
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
    """(N, C, H, W) → (N, F, H', W'), position by position."""
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


def scale(t):
    """The mean of a Bayesian section's scales, one a group."""
    if "z_mean" in t:
        return t["z_mean"]
    mean, logvar = ([*t[f"global_{n}"], *t[f"local_{n}"]] for n in ("mean", "logvar"))
    # the mean of a log-normal variable whose logarithm is half the sum of four normal ones
    return np.exp(sum(mean) / 2 + sum(map(np.exp, logvar)) / 8)


def bayesian_convolution(activation="linear", bn=False, **geometry):
    def expected(t, x):
        z = scale(t)
        biases = t["biases"] if bn else t["biases"] * z
        plain = {**t, "weights": t["weights"] * z[:, None, None, None], "biases": biases}
        return convolution(activation, bn, **geometry)(plain, x)

    return expected


def bayesian_connected(activation, bn=False):
    def expected(t, x):
        return connected(activation, bn)({**t, "weights": t["weights"] * scale(t)}, x)

    return expected


def local(activation, size, stride, pad):
    def expected(t, x):
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        height, width = ((n - size) // stride + 1 for n in x.shape[2:])
        out = t["biases"].reshape(1, -1, height, width).repeat(len(x), 0).astype(float)
        for position, weights in enumerate(t["weights"]):
            i, j = (stride * k for k in divmod(position, width))
            window = x[:, :, i : i + size, j : j + size].reshape(len(x), -1)
            out[:, :, position // width, position % width] += window @ weights.T
        return activated(activation, out)

    return expected


def sphere(eps):
    """The channels of every position over their norm, times their factors."""

    def expected(t, x):
        norm = np.sqrt((x**2).sum(1, keepdims=True) + eps)
        return x / norm * t["factors"][:, None, None]

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
