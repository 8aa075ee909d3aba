"""Whole residual blocks removed: the rest computes what the network with silent branches does."""

import functools

import pytest
import torch
from cfgs import HEAD, RESIDUAL, conv, maxpool, net, plain, route, shortcut
from hypothesis import HealthCheck, given, settings
from networks import build
from random_blocks import difference, removals

from pruning.cut.blocks import Block, remove, residual_blocks, silenced
from pruning.proof.verify import noise_image, relative
from pruning.selection.blocks import block_scores
from yolo.cfg import Cfg
from yolo.errors import PlanError
from yolo.layers.base import resolve
from yolo.layers.combining import normalised
from yolo.models.weights import load_weights, save_weights
from yolo.network import Network

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=80)
EXACT = 1e-12
NET = net(12, 10)


@SLOW
@given(removals())
def test_what_is_left_computes_what_silent_branches_leave(removing):
    sample = removing.sample
    assert (
        difference(sample.network, sample.state, removing.blocks, removing.removal, sample.x)
        <= EXACT
    )


@SLOW
@given(removals())
def test_a_block_is_what_only_its_shortcut_sees_of_what_its_skip_feeds(removing):
    """Path by path, as one would look for it by hand."""
    network = removing.sample.network
    layers, consumers = network.layers, network.consumers

    def copied(i):
        """What a [route] hands on."""
        single = layers[i].section.type == "route" and len(layers[i].sources) == 1
        return copied(layers[i].sources[0]) if single and layers[i].groups == 1 else i

    def sharers(i):
        """The sections whose share_index= names this one."""
        sections = [layer.section for layer in layers if layer.section.has("share_index")]
        named = {s.index: resolve(s, "share_index", *s.integers("share_index")) for s in sections}
        return [j for j, owner in named.items() if owner == i]

    @functools.cache
    def feeds(start, end):
        """Whether there is a way from `start` to `end`."""
        return any(i == end or feeds(i, end) for i in consumers[start])

    for block in residual_blocks(network):
        layer = layers[block.shortcut]
        sources = [copied(i) for i in layer.sources]
        others = [i for i in sources if i != block.skip]
        between = range(block.skip + 1, block.shortcut)
        ways = {i for i in between if feeds(block.skip, i) and feeds(i, block.shortcut)}
        # copies of the skip are on a way, but needn't go with it
        ways = {i for i in ways if copied(i) != block.skip}
        users = {j for i in ways for j in (*consumers[i], *sharers(i))} - {block.shortcut}
        removable = (
            len(others) == len(sources) - 1
            and all(i in ways for i in others)
            and layers[block.skip].out_shape == layer.out_shape
            and users <= ways
            and not any(layers[i].is_head or not consumers[i] for i in ways)
        )
        assert removable == (block.reason is None), block
        if removable:
            assert ways | {block.shortcut} <= set(block.sections)
            assert {j for i in block.sections for j in consumers[i]} - set(
                consumers[block.shortcut]
            ) <= set(block.sections)


@SLOW
@given(removals())
def test_nothing_that_stays_is_touched(removing):
    network, removal = removing.sample.network, removing.removal
    smaller = Network.with_state(removal.cfg, removal.state)
    gone = {i for block in removing.blocks for i in block.sections}
    skips = {block.shortcut for block in removing.blocks}
    for i, new_index in removal.index_map.items():
        old, new = network.layers[i], smaller.layers[new_index]
        assert new.out_shape == old.out_shape
        if i in skips:
            continue
        assert i not in gone
        changed = {"from", "layers", "share_index"}
        text, written = (
            {k: o.value for k, o in layer.section.options.items()} for layer in (old, new)
        )
        assert {k: v for k, v in text.items() if k not in changed} == {
            k: v for k, v in written.items() if k not in changed
        }
        assert new.sources == tuple(removal.index_map.get(s, s) for s in old.sources)
        for key in changed & set(text):
            signs = [index < 0 for index in old.section.integers(key)]
            assert signs == [index < 0 for index in new.section.integers(key)]
        for name, tensor in removing.sample.state.get(i, {}).items():
            assert removal.state[new_index][name] is tensor
    # what nothing uses in the smaller network, nothing used before
    ends = {i for i, users in network.consumers.items() if not users}
    assert {i for i, users in smaller.consumers.items() if not users} <= {
        removal.index_map[i] for i in ends
    }


@SLOW
@given(removals())
def test_written_files_read_back(tmp_path_factory, removing):
    folder = tmp_path_factory.mktemp("blocks")
    removal = removing.removal
    single = {i: {n: t.float() for n, t in ts.items()} for i, ts in removal.state.items()}
    written = Network.with_state(removal.cfg.strict(), single)
    written.cfg.write(folder / "x.cfg")
    save_weights(written, folder / "x.weights")
    read = Network(Cfg.load(folder / "x.cfg"))
    load_weights(read, folder / "x.weights")
    assert [layer.out_shape for layer in read.layers] == [
        layer.out_shape for layer in written.layers
    ]
    if not removing.blocks:
        assert removal.cfg.to_bytes() == removing.sample.network.cfg.to_bytes()


def removed(text, *shortcuts):
    """The blocks of these shortcuts removed, by default of all, and proven."""
    network = build(text)
    blocks = [b for b in residual_blocks(network) if not shortcuts or b.shortcut in shortcuts]
    removal = remove(network, network.state(), blocks)
    x = noise_image(network)
    assert difference(network, network.state(), blocks, removal, x) <= 1e-6
    return removal


def types(removal):
    return [section.type for section in removal.cfg.layers]


def only_block(text):
    (block,) = residual_blocks(build(text))
    return block


def reason(text):
    return only_block(text).reason


def test_a_block_of_yolov3():
    block = only_block(NET + conv() + RESIDUAL + conv())
    assert block == Block(shortcut=3, skip=0, sections=(1, 2, 3))
    assert types(removed(NET + conv() + RESIDUAL + conv())) == ["convolutional"] * 2


def test_the_document_stays():
    block = RESIDUAL.replace("\n[", "\n\n[") + "\n"
    text = (
        "# a net\n[net]\nwidth = 12\nheight=10\nchannels=3\n\n; the stem\n"
        + conv()
        + "\n# stage 1\n"
        + block.replace("size", "# inside\nsize", 1)
        + "# stage 2\n"
        + block.replace("from=-3", "from = 3")
        + "# the end\n"
        + conv(3, 1).replace("size=1", "size = 1 \nsize=7")
        + "\n[route]\nlayers = -1, 6\n# last\n"
    )
    assert removed(text, 3).cfg.to_bytes().decode() == (
        "# a net\n[net]\nwidth = 12\nheight=10\nchannels=3\n\n; the stem\n" + conv()
        + "\n# stage 1\n# stage 2\n"
        + block.replace("from=-3", "from=0")
        + "# the end\n" + conv(3, 1).replace("size=1", "size = 1 \nsize=7")
        + "\n[route]\nlayers=-1,3\n# last\n"
    )  # fmt: skip


def test_crlf_stays():
    text = NET + conv() + RESIDUAL + route(0) + conv() + shortcut(-2, activation="leaky")
    text = text.replace("\n", "\r\n")
    content = removed(text).cfg.to_bytes()
    assert content.count(b"\n") == content.count(b"\r\n")


def test_references_go_to_the_skip():
    """As in yolov3, where the necks take up what stages end with."""
    text = NET + conv() + RESIDUAL + conv() + route(-1, 3) + conv(6) + route(-4, -1)
    removal = removed(text)
    assert [removal.cfg.layers[i].text("layers") for i in (2, 4)] == ["-1,0", "-4,-1"]
    assert removal.index_map == {0: 0, 3: 0, 4: 1, 5: 2, 6: 3, 7: 4}


def test_a_skip_that_isn_t_the_section_before():
    """Another branch stands between them, so a [route] takes the shortcut's place."""
    other = route(0) + conv(6) + route(0) + conv(4) + shortcut(0)
    text = NET + conv() + other + conv(5) + route(-1, 2)
    removal = removed(text)
    assert types(removal) == ["convolutional", "route", *["convolutional", "route"] * 2]
    assert [removal.cfg.layers[i].text("layers") for i in (1, 3, 5)] == ["0", "-3", "-1,2"]
    # a [route] that names it is enough
    assert types(removed(text.replace(conv(5), route(5)))) == [
        "convolutional", "route", "convolutional", "route", "route"
    ]  # fmt: skip


def test_nested_blocks():
    text = NET + conv() + conv() + RESIDUAL + conv() + shortcut(0) + conv(3)
    inner, outer = residual_blocks(build(text))
    assert inner.sections == (2, 3, 4)
    assert outer.sections == (1, 2, 3, 4, 5, 6)
    assert len(removed(text, 4).cfg.layers) == 5
    assert len(removed(text, 6).cfg.layers) == len(removed(text).cfg.layers) == 2


def test_the_branch_may_be_any_input():
    text = NET + conv() + conv(2, 1) + conv() + route(0) + shortcut(-2) + conv(3)
    assert only_block(text) == Block(4, 0, (1, 2, 3, 4))
    assert types(removed(text)) == ["convolutional"] * 2


def test_a_slice_is_a_skip_of_its_own():
    """A [route] with groups= is no copy of its source."""
    text = NET + conv(8) + route(-1, groups=2, group_id=1) + RESIDUAL + conv(3)
    assert only_block(text) == Block(4, 1, (2, 3, 4))
    assert types(removed(text)) == ["convolutional", "route", "convolutional"]


def test_several_inputs():
    text = NET + conv() + conv() + conv() + shortcut(-2, 0) + conv(3)
    assert only_block(text) == Block(3, 0, (1, 2, 3))
    assert len(removed(text).cfg.layers) == 2


def test_squeeze_and_excite_and_dropout():
    gate = "[avgpool]\n" + conv(2, 1, batch_normalize=None) + plain(4, activation="logistic")
    branch = conv() + gate + "[scale_channels]\nfrom=-4\n[dropout]\nprobability=.2\n"
    text = NET + conv() + branch + shortcut(-7) + conv(3)
    assert only_block(text).sections == tuple(range(1, 8))
    network = build(text)
    # what is scaled is what enters the shortcut
    expected = float(network.state()[1]["scales"].abs().double().mean())
    assert block_scores(network, network.state()) == {7: pytest.approx(expected)}
    removed(text)


@pytest.mark.parametrize(("activation", "left"), [("relu", 2), ("leaky", 3), ("mish", 3)])
def test_an_activation_behind_the_sum(activation, left):
    """ReLU of a ReLU is nothing new; others stay, in a section that every engine knows."""
    text = NET + conv(activation=activation) + conv() + shortcut(0, activation=activation) + conv(3)
    removal = removed(text)
    assert only_block(text).leaves == (left == 3)
    assert types(removal) == ["convolutional"] * left


def test_a_relu_of_pooled_relus_is_nothing_new():
    skip = conv(activation="relu") + maxpool(3, 1)
    assert not only_block(NET + skip + conv() + shortcut(-2, activation="relu")).leaves
    assert only_block(NET + conv() + conv() + shortcut(-2, activation="relu")).leaves
    pooled = maxpool(3, 1) + conv(3) + shortcut(0, activation="relu")
    assert only_block(NET + pooled).leaves  # the image may be anything
    assert only_block(NET + pooled + conv(activation="relu")).leaves
    assert only_block(
        NET + conv(activation="relu") + conv() + shortcut(-2, activation="relu6")
    ).leaves


@pytest.mark.parametrize("kind", ["per_feature", "per_channel"])
@pytest.mark.parametrize("norm", ["none", "relu", "softmax"])
def test_factors_stay(kind, norm):
    weights = {"weights_type": kind, "weights_normalization": norm}
    text = NET + conv() + conv() + shortcut(-2, activation="leaky", **weights) + conv(3)
    removal = removed(text)
    factors = normalised(build(text).state()[2]["weights"], norm)[1].expand(4)
    assert torch.equal(removal.state[1]["weights"].flatten(), factors)


def test_a_result_stays_one():
    """The network's last section is its output."""
    text = NET + conv() + route(0) + conv(6) + route(0) + conv() + shortcut(0)
    assert types(removed(text)) == ["convolutional", "route", "convolutional", "route"]


def test_side_inputs_go_too():
    """What only the branch needs, though its skip doesn't feed it; also of two blocks."""
    side = route(0) + conv(3, 1)
    block = conv() + route(-1, 3) + conv() + shortcut(-4)
    text = NET + conv() + conv() + side + route(1) + conv() + block + conv(3)
    assert only_block(text).sections == (2, 3, 6, 7, 8, 9)
    twice = text.replace(block, block + block)
    assert [b.sections for b in residual_blocks(build(twice))] == [(6, 7, 8, 9), (10, 11, 12, 13)]
    assert len(removed(twice).cfg.layers) == len(removed(text).cfg.layers)


@pytest.mark.parametrize(
    ("sections", "why"),
    [
        (
            conv(2, 1) + conv() + shortcut(-3) + route(1),
            "section 1 of its branch feeds section 4, a [route], too",
        ),
        (
            HEAD + route(1) + conv() + shortcut(0),
            "section 1 of its branch feeds section 2, a [yolo], too",
        ),
        (
            conv() + conv() + shortcut(0) + conv(share_index=1),
            "section 1 of its branch shares its tensors with section 4, a [convolutional], too",
        ),
        (
            conv(6) + route(0) + conv(6) + shortcut(1),
            "section 3, which it adds, isn't made from section 1, its other input",
        ),
        (
            conv(6) + shortcut(0),
            "its output is 6x10x12, but its skip is section 0: 4x10x12",
        ),
        (route(0) + shortcut(0), "it adds the output of section 0 to itself"),
    ],
)  # fmt: skip
def test_blocks_that_must_stay(sections, why):
    network = build(NET + conv() + sections)
    (block,) = residual_blocks(network)
    assert block.reason == why
    assert block.sections == ()
    line = network.layers[block.shortcut].section.line + 1
    for use in (remove, silenced):
        with pytest.raises(PlanError) as caught:
            use(network, network.state(), [block])
        message = f"x.cfg:{line}: [shortcut] its block can't be removed: {why}"
        assert str(caught.value) == message
    assert block_scores(network, network.state()) == {}


def test_an_output_inside():
    """A [softmax] may feed others though it is a head."""
    text = NET + conv() + conv(activation="linear") + "[softmax]\n" + conv() + shortcut(0)
    assert reason(text) == "section 2 of its branch is an output of the network"


def test_scores():
    """Mean |γ|, without BN the mean norm of the filters, of what the branch ends with."""
    inner = conv(2, 1) + conv() + shortcut(-3)
    text = NET + conv() + RESIDUAL + conv(2, 1) + conv(batch_normalize=None) + shortcut(-3)
    text += conv() + inner + shortcut(-5) + maxpool(3, 1) + shortcut(-2)
    network = build(text)
    state = network.state()
    gamma = {i: t["scales"].abs() for i, t in state.items() if "scales" in t}
    norms = state[5]["weights"].flatten(1).norm(dim=1)
    both = torch.cat((gamma[7], gamma[9]))
    scores = block_scores(network, state)
    expected = {3: gamma[2], 6: norms, 10: gamma[9], 11: both}
    assert scores.pop(13) == float("inf")
    assert scores == {i: pytest.approx(float(t.mean())) for i, t in expected.items()}


def test_scores_of_shared_tensors():
    text = NET + conv() + conv() + conv(share_index=-1) + shortcut(0)
    network = build(text)
    expected = float(network.state()[1]["scales"].mean())
    assert block_scores(network, network.state()) == {3: pytest.approx(expected)}


@torch.no_grad()
def test_silence_is_what_zero_gammas_give():
    """The same without hooks: γ = β = 0 where a linear convolution enters the shortcut."""
    text = NET + conv() + (conv(2, 1) + conv(activation="linear") + shortcut(-3)) * 3 + HEAD
    network = build(text)
    blocks = residual_blocks(network)[::2]
    state = {i: dict(tensors) for i, tensors in network.state().items()}
    for block in blocks:
        last = state[block.shortcut - 1]
        last |= {name: torch.zeros_like(last[name]) for name in ("scales", "biases")}
    x = noise_image(network)
    masked = Network.with_state(network.cfg, state)(x)
    assert relative(silenced(network, network.state(), blocks)(x), masked) == 0
    removal = remove(network, network.state(), blocks)
    outputs = Network.with_state(removal.cfg, removal.state)(x)
    assert relative({i: outputs[removal.index_map[i]] for i in masked}, masked) == 0
