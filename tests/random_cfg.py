"""Random cfgs that build, from every section type, with tensors as a trained network has them."""

import dataclasses
import random
from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from yolo.cfg import Cfg
from yolo.errors import CfgError
from yolo.layers import Layer, Shape, kind_of
from yolo.layers.activations import ACROSS_CHANNELS, ACTIVATIONS
from yolo.network import Network, State

SCALAR = sorted(set(ACTIVATIONS) - ACROSS_CHANNELS)
WIDTHS = (4, 4, 4, 8, 8, 6, 2, 12, 1, 5)
MOST_CHANNELS, MOST_POSITIONS = 24, 300


@dataclass(frozen=True, eq=False)
class Sample:
    """A network whose state is in float64, and an input for it."""

    network: Network
    state: State
    x: torch.Tensor

    def __repr__(self) -> str:
        return self.network.cfg.to_bytes().decode()


class Writer:
    """Writes sections that fit behind the ones that are there, and drops those that don't."""

    def __init__(self, net):
        self.random = random.Random(0)
        self.text = net
        self.layers: list[Layer] = []
        self.image = Network(Cfg((net + "[dropout]\n").encode())).image

    @property
    def shape(self) -> Shape:
        return self.layers[-1].out_shape if self.layers else self.image

    def one_of(self, *values):
        return self.random.choice(values)

    def below(self, count):
        return self.random.randrange(count)

    def chance(self, parts):
        """True once in `parts` times."""
        return self.below(parts) == parts - 1

    def add(self, kind, **options) -> bool:
        lines = "".join(f"{k}={v}\n" for k, v in options.items() if v is not None)
        text = f"[{kind}]\n{lines}"
        alone = Cfg(f"[net]\n{text}".encode()).layers[0]
        section = dataclasses.replace(alone, index=len(self.layers))
        try:
            with torch.device("meta"):
                layer = kind_of(section)(section, self.layers, self.image)
        except CfgError:
            return False
        shape = layer.out_shape
        if shape.channels > MOST_CHANNELS or shape.area > MOST_POSITIONS:
            return False
        self.text += text
        self.layers.append(layer)
        return True

    def conv(self, filters, activation=None, **options) -> bool:
        bn = None if self.chance(4) else 1
        activation = activation or self.one_of("leaky", "relu", "mish", "linear", *SCALAR)
        return self.add(
            "convolutional", batch_normalize=bn, filters=filters, activation=activation, **options
        )

    def earlier(self, same=None) -> int | None:
        """An earlier section, as an index that may be relative, whose shape `same` accepts."""
        last = len(self.layers)
        indices = [i for i in range(last) if same is None or same(self.layers[i].out_shape)]
        if not indices:
            return None
        index = indices[-1 - self.below(len(indices))]
        return index - last if self.chance(2) else index


def plain(w):
    w.conv(w.one_of(*WIDTHS), size=w.one_of(3, 1, 3, 5), pad=1)


def odd_convolution(w):
    """Strides, paddings and dilations that aren't the usual ones."""
    size = w.one_of(3, 1, 2, 5)
    w.conv(
        w.one_of(*WIDTHS),
        size=size,
        stride=w.one_of(None, 2),
        stride_x=w.one_of(None, 1, 2),
        padding=w.below(size // 2 + 3),
        pad=w.one_of(None, None, 1),
    )


def dilated(w):
    w.conv(w.one_of(*WIDTHS), size=3, pad=1, dilation=w.one_of(2, 3))


def mixing(w):
    w.conv(4, activation=w.one_of(*sorted(ACROSS_CHANNELS)), size=w.one_of(1, 3), pad=1)


def grouped(w):
    groups = w.one_of(2, 2, 4, 3)
    w.conv(w.one_of(4, 8, 12, 6), groups=groups, size=w.one_of(3, 1), pad=w.one_of(1, None))


def depthwise(w):
    channels = w.shape.channels
    w.conv(channels * w.one_of(1, 1, 2), groups=channels, size=3, pad=1, stride=w.one_of(None, 2))


def shared(w):
    """Two convolutions with the same tensors."""
    channels = w.shape.channels
    options = {"filters": channels, "size": 3, "pad": 1, "groups": w.one_of(None, None, 2)}
    if w.add("convolutional", batch_normalize=1, activation="relu", **options):
        options["share_index"] = w.one_of(-1, len(w.layers) - 1)
        w.add("convolutional", batch_normalize=1, activation="leaky", **options)


def connected(w):
    bn = w.one_of(1, None)
    w.add("connected", output=w.one_of(*WIDTHS), batch_normalize=bn, activation=w.one_of(*SCALAR))


def simple(w):
    """A section that keeps the shape."""
    kind = w.one_of("batchnorm", "activation", "dropout", "cost", "normalization")
    activation = w.one_of(*SCALAR) if kind == "activation" else None
    w.add(kind, activation=activation, size=w.one_of(None, 3) if kind == "normalization" else None)


def pool(w):
    size = w.one_of(2, 3, 5, 1)
    w.add(
        w.one_of("maxpool", "local_avgpool"),
        size=size,
        stride=w.one_of(1, 2),
        stride_y=w.one_of(None, 1, 2),
        padding=w.one_of(None, *range(size + 2)),
    )


def depth_pool(w):
    w.add("maxpool", maxpool_depth=1, out_channels=w.one_of(1, 2, 3))


def average(w):
    w.add("avgpool")


def upsample(w):
    w.add("upsample", stride=w.one_of(2, 1, 3), scale=w.one_of(None, 0.5, -2))


def reorg(w):
    kind = w.one_of("reorg3d", "reorg3d", "reorg")
    w.add(kind, stride=w.one_of(2, 1), reverse=w.one_of(None, None, 1))


def crop(w):
    shape = w.shape
    w.add("crop", crop_width=max(1, shape.width - 1), crop_height=shape.height)


def local(w):
    size = w.one_of(1, 3, 2)
    w.add("local", filters=w.one_of(2, 4), size=size, pad=size // 2, activation=w.one_of(*SCALAR))


def route(w):
    """One to three sources, perhaps a slice of each."""
    first = w.earlier()
    if first is None:
        return
    shape = w.layers[first].out_shape
    sources = [first]
    for _ in range(w.below(3)):
        sources.append(w.earlier(lambda s: (s.height, s.width) == (shape.height, shape.width)))
    groups = w.one_of(None, None, 2, 4)
    group_id = None if groups is None else w.below(groups)
    w.add("route", layers=",".join(map(str, sources)), groups=groups, group_id=group_id)


def shortcut(w):
    """To sections of the same shape, now and then of the same height and width only."""
    shape, unequal = w.shape, w.chance(6)

    def fits(other):
        same = (other.height, other.width) == (shape.height, shape.width)
        return same and (unequal or other.channels == shape.channels)

    sources = [w.earlier(fits) for _ in range(1 + w.below(2))]
    if None in sources:
        return
    weights = w.one_of(None, None, "per_feature", "per_channel")
    w.add(
        "shortcut",
        **{"from": ",".join(map(str, sources))},
        activation=w.one_of("linear", None, "leaky", *SCALAR),
        weights_type=weights,
        weights_normalization=weights and w.one_of(None, "relu", "softmax"),
    )


def residual(w):
    filters, depth = w.shape.channels, 1 + w.below(2)
    if not w.layers:
        return
    start = len(w.layers) - 1
    for _ in range(depth - 1):
        w.conv(w.one_of(*WIDTHS), size=1)
    w.conv(filters, size=3, pad=1)
    w.add("shortcut", **{"from": start}, activation="linear")


def squeeze(w):
    """Squeeze and excite."""
    filters, start = w.shape.channels, len(w.layers) - 1
    if start >= 0 and w.add("avgpool"):
        w.conv(w.one_of(*WIDTHS))
        w.conv(filters, activation=w.one_of("logistic", "linear"))
        w.add("scale_channels", **{"from": start}, activation=w.one_of(None, "relu"))


def attention(w):
    """One factor a position: for all channels, or for each."""
    filters, start = w.shape.channels, len(w.layers) - 1
    if start < 0:
        return
    if w.chance(2):
        w.conv(1, activation="logistic")
        w.add("scale_channels", **{"from": start}, scale_wh=1)
    else:
        w.conv(filters, activation="logistic", size=3, pad=1)
        w.add("sam", **{"from": start}, activation=w.one_of(None, "mish"))


def implicit(w):
    start = len(w.layers) - 1
    if start >= 0:
        w.add("implicit", filters=w.shape.channels, atoms=w.one_of(None, None, 2))
        w.add("scale_channels", **{"from": start})


def implicit_source(w):
    """Learned constants beside the means of an earlier section."""
    if w.layers and w.add("avgpool"):
        w.add("implicit", filters=w.layers[-1].out_shape.channels)
        w.add("route", layers="-1,-2")


def early_head(w):
    head(w)
    index = w.earlier()
    if index is not None:
        w.add("route", layers=index)


def head(w):
    """A head with the section that gives it what it expects."""
    kind = w.one_of("yolo", "region", "Gaussian_yolo", "softmax", "detection")
    if kind == "softmax":
        w.conv(w.one_of(4, 3), activation="linear")
        w.add("softmax", groups=w.one_of(None, 2))
    elif kind == "detection":
        w.add("connected", output=12, activation="linear")
        w.add("detection", classes=2, num=2, side=1, coords=4)
    elif kind == "region":
        w.conv(12, activation="linear")
        w.add("region", classes=1, num=2)
    else:
        entries = 6 if kind == "yolo" else 10
        w.conv(entries * 2, activation="linear", size=w.one_of(1, 3), pad=1)
        w.add(kind, classes=1, num=3, mask="0,2")


BLOCKS = (
    *(plain,) * 4,
    *(route, residual, shortcut, grouped, depthwise) * 3,
    *(odd_convolution, squeeze, pool) * 2,
    *(dilated, shared, simple, upsample, reorg, attention, implicit, early_head),
    *(average, connected, mixing, local, crop, depth_pool, implicit_source),
)


def write(image: Shape, blocks) -> str:
    """A cfg text of (block, seed) pairs: the seed decides what a block leaves open."""
    w = Writer(f"[net]\nwidth={image.width}\nheight={image.height}\nchannels={image.channels}\n")
    for block, seed in blocks:
        w.random.seed(seed)
        block(w)
    return w.text


def seeded(blocks):
    return st.tuples(st.sampled_from(blocks), st.integers(0, 2**32 - 1))


def cfg_texts(least: int = 2, most: int = 12) -> st.SearchStrategy[str]:
    """Cfgs that build, of so many blocks between a convolution and, mostly, a head."""
    images = st.builds(
        Shape, st.sampled_from((3, 1, 4)), st.sampled_from((8, 6, 9)), st.sampled_from((8, 7, 10))
    )
    middle = st.lists(seeded(BLOCKS), min_size=least, max_size=most)
    parts = st.tuples(seeded((plain,)), middle, seeded((*(head,) * 9, plain)))
    return st.builds(lambda image, part: write(image, [part[0], *part[1], part[2]]), images, parts)


def trained_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """γ spread, some of it exactly 0 and some of it equal; β of both signs; positive variances."""

    def normal():
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def uniform():
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    if name == "variance":
        return uniform() + 0.5
    if name == "scales":
        spread = torch.where(uniform() < 0.3, (normal() * 2).round() / 2, normal())
        return torch.where(uniform() < 0.15, 0.0, spread)
    if name in ("biases", "mean"):
        return torch.where(uniform() < 0.15, 0.0, normal() * 0.6)
    fan_in = max(1, torch.Size(shape[1:]).numel())
    return normal() / fan_in**0.5


def trained_state(network: Network, seed: int) -> State:
    """Float64 tensors for every section."""
    generator = torch.Generator().manual_seed(seed)
    return {
        index: {name: trained_tensor(name, t.shape, generator) for name, t in tensors.items()}
        for index, tensors in network.state().items()
    }


def sample(text: str, seed: int = 0) -> Sample:
    """A cfg text with trained-looking tensors and a random image."""
    network = Network(Cfg(text.encode(), "x.cfg"))
    state = trained_state(network, seed)
    shape = network.image
    random = torch.Generator().manual_seed(seed + 1)
    x = torch.rand(2, shape.channels, shape.height, shape.width, generator=random).double()
    return Sample(network, state, x)


def samples(least: int = 2, most: int = 12) -> st.SearchStrategy[Sample]:
    return st.builds(sample, cfg_texts(least, most), st.integers(0, 2**16))
