"""Random networks with residual blocks."""

from dataclasses import dataclass

import random_cfg
import torch
from hypothesis import reject
from hypothesis import strategies as st
from random_cfg import Sample, Shape, seeded

from pruning.cut.blocks import Block, Removal, remove, residual_blocks, silenced
from pruning.proof.verify import relative
from yolo.network import Network


def branch(w, least=1, most=3):
    """Sections that keep the shape, a branch but for its last convolution."""
    for _ in range(least + w.below(most)):
        w.one_of(*INSIDE)(w)


def narrow(w):
    w.conv(w.one_of(2, 4, 6), size=w.one_of(1, 3), pad=1)


def depthwise(w):
    w.conv(w.shape.channels, groups=w.shape.channels, size=3, pad=1)


def dropout(w):
    w.add("dropout", probability=0.3)


def tapped(w):
    """Something outside may come to need this, or it is another part of the branch."""
    narrow(w)
    same = (w.shape.height, w.shape.width)
    other = w.earlier(lambda shape: (shape.height, shape.width) == same)
    w.add("route", layers=f"-1,{other}")


def nested(w):
    if w.chance(2):
        residual(w)


def residual(w):
    """A block, perhaps with its skip copied by a [route], with others in it, with factors."""
    if not w.layers:
        return
    start, shape = len(w.layers) - 1, w.shape
    branch(w)
    if not w.conv(shape.channels, size=w.one_of(1, 3), pad=1) or w.shape != shape:
        return
    if w.chance(4):
        dropout(w)
    sources = [start]
    if w.chance(4):
        w.add("route", layers=start)
        sources = [len(w.layers) - 2]
    if w.chance(4):
        other = w.earlier(lambda s: s == shape)
        sources.append(other % len(w.layers))
    weights = w.one_of(None, None, None, "per_feature", "per_channel")
    relative = w.chance(2)
    w.add(
        "shortcut",
        **{"from": ",".join(str(i - len(w.layers) if relative else i) for i in sources)},
        activation=w.one_of("linear", "linear", None, "relu", "leaky", "mish", "logistic"),
        weights_type=weights,
        weights_normalization=weights and w.one_of(None, "relu", "softmax"),
    )


INSIDE = (narrow, depthwise, random_cfg.squeeze, dropout, tapped, nested, random_cfg.shared)


def chain(w):
    """Blocks as most networks have them: one behind another, after the same activation."""
    activation = w.one_of("relu", "linear", "leaky")
    w.conv(4, activation=activation, size=1)
    if w.chance(3):
        w.add("maxpool", size=2, stride=1)
    for _ in range(2 + w.below(2)):
        narrow(w)
        w.add("convolutional", batch_normalize=1, filters=4, size=3, pad=1, activation="linear")
        w.add("shortcut", **{"from": -3}, activation=activation)


BLOCKS = (
    *(residual,) * 8,
    *(chain,) * 3,
    *(random_cfg.route, random_cfg.shortcut, random_cfg.early_head, random_cfg.plain) * 2,
    *(random_cfg.pool, random_cfg.grouped, random_cfg.upsample, random_cfg.implicit_source),
)


def cfg_texts():
    images = st.just(Shape(3, 8, 7))
    middle = st.lists(seeded(BLOCKS), min_size=1, max_size=7)
    # without a head the last section is the result, a [shortcut] too
    last = seeded((*(random_cfg.head,) * 4, random_cfg.plain, residual))
    parts = st.tuples(seeded((random_cfg.plain,)), middle, last)
    return st.builds(
        lambda image, part: random_cfg.write(image, [part[0], *part[1], part[2]]), images, parts
    )


@dataclass(frozen=True)
class Removing:
    """Some blocks of a random network, and what is left without them."""

    sample: Sample
    blocks: tuple[Block, ...]
    removal: Removal

    def __repr__(self) -> str:
        return f"{self.sample!r}\n{self.blocks}"


@st.composite
def removals(draw):
    sample = random_cfg.sample(draw(cfg_texts()), draw(st.integers(0, 2**16)))
    removable = [block for block in residual_blocks(sample.network) if not block.reason]
    chosen = tuple(block for block in removable if draw(st.integers(0, 2)))
    return Removing(sample, chosen, remove(sample.network, sample.state, chosen))


def difference(network, state, blocks, removal, x):
    """Relative L2 between a removal and the network with silent branches, where both are seen."""
    wanted = network.head_inputs
    with torch.no_grad():
        smaller = Network.with_state(removal.cfg, removal.state)
        outputs = smaller(x, collect=[removal.index_map[i] for i in wanted])
        expected = silenced(network, state, blocks)(x, collect=wanted)
    if not all(out.isfinite().all() for out in expected.values()):
        reject()
    assert {removal.index_map[i] for i in wanted} == set(smaller.head_inputs)
    return relative({i: outputs[removal.index_map[i]] for i in wanted}, expected)
