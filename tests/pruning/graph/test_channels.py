"""The channel graph: one test a topology, with the ties written by hand, and a naive union-find."""

import numpy as np
import pytest
from cfgs import NET, conv, section
from hypothesis import HealthCheck, given, settings
from random_cfg import cfg_texts

from pruning.graph.channels import ChannelGraph
from yolo.cfg import Cfg
from yolo.network import Network


def graph_of(*sections):
    return ChannelGraph(Network(Cfg((NET + "".join(sections)).encode(), "x.cfg")))


class Ties:
    """Union-find over (section, channel), as slow and plain as can be."""

    def __init__(self, graph):
        self.parent = {(i, c): (i, c) for i, ids in graph.outputs.items() for c in range(len(ids))}

    def find(self, node):
        while self.parent[node] != node:
            node = self.parent[node]
        return node

    def tie(self, a, b):
        self.parent[self.find(a)] = self.find(b)

    def groups(self):
        groups = {}
        for node in self.parent:
            groups.setdefault(self.find(node), set()).add(node)
        return {frozenset(group) for group in groups.values()}


def expected(graph, *ties):
    """Groups of (section, its channels), (section, its channels) pairs that go together."""
    naive = Ties(graph)
    for (a, channels), (b, others) in ties:
        for c, d in zip(channels, others, strict=True):
            naive.tie((a, c), (b, d))
    return naive.groups()


def groups_of(graph):
    groups = {}
    for i, ids in graph.outputs.items():
        for channel, group in enumerate(ids.tolist()):
            groups.setdefault(group, set()).add((i, channel))
    return {frozenset(group) for group in groups.values()}


def families_of(graph):
    return {(f.sections, f.groups.shape, f.unit, f.cost) for f in graph.families}


ALL = range(4)
FIRST, SECOND = range(2), range(2, 4)


def same(a, b, channels=ALL):
    return (a, channels), (b, channels)


def test_a_chain_of_shortcuts():
    graph = graph_of(
        conv(4), conv(2), conv(4), section("shortcut", from_=-3), conv(4),
        section("shortcut", from_=-2), conv(3),
    )  # fmt: skip
    assert groups_of(graph) == expected(graph, same(0, 2), same(0, 3), same(0, 4), same(0, 5))
    assert families_of(graph) == {((0, 2, 4), (1, 4), 1, 3), ((1,), (1, 2), 1, 1)}
    assert graph.reason(6) == "is the network's output"


def test_a_route_that_concatenates():
    graph = graph_of(conv(2), conv(4), section("route", layers="-1,0"), conv(3))
    assert groups_of(graph) == expected(
        graph, ((1, ALL), (2, range(4))), ((0, FIRST), (2, range(4, 6)))
    )
    assert families_of(graph) == {((0,), (1, 2), 1, 1), ((1,), (1, 4), 1, 1)}


def test_a_slice_as_in_yolov4_tiny():
    graph = graph_of(
        conv(4), section("route", layers=-1, groups=2, group_id=1), conv(2), conv(2),
        section("route", layers="-1,-2"), conv(4), section("route", layers="0,-1"), conv(3),
    )  # fmt: skip
    assert groups_of(graph) == expected(
        graph,
        ((0, SECOND), (1, FIRST)),
        ((3, FIRST), (4, FIRST)),
        ((2, FIRST), (4, SECOND)),
        ((0, ALL), (6, range(4))),
        ((5, ALL), (6, range(4, 8))),
    )
    # both halves of section 0 keep equally many
    assert families_of(graph) == {
        ((0,), (2, 2), 2, 2),
        ((2,), (1, 2), 1, 1),
        ((3,), (1, 2), 1, 1),
        ((5,), (1, 4), 1, 1),
    }
    assert next(f for f in graph.families if f.sections == (0,)).groups.tolist() == [
        graph.outputs[0][:2].tolist(),
        graph.outputs[0][2:].tolist(),
    ]


def test_depthwise():
    graph = graph_of(conv(4), conv(4, groups=4), conv(8, groups=4), conv(3))
    doubled = [((0, [c, c]), (2, [2 * c, 2 * c + 1])) for c in ALL]
    assert groups_of(graph) == expected(graph, same(0, 1), *doubled)
    assert families_of(graph) == {((0, 1, 2), (1, 4), 1, 4)}


def test_depthwise_of_the_image_stays():
    graph = graph_of(conv(3, groups=3), conv(2))
    assert graph.families == ()
    assert graph.reason(0) == "is the network's input"


def test_squeeze_and_excite():
    graph = graph_of(
        conv(4), section("avgpool"), conv(2, size=1), conv(4, size=1, activation="logistic"),
        section("scale_channels", from_=0), conv(3),
    )  # fmt: skip
    assert groups_of(graph) == expected(graph, same(0, 1), same(0, 3), same(0, 4))
    assert families_of(graph) == {((0, 3), (1, 4), 1, 2), ((2,), (1, 2), 1, 1)}


def test_one_factor_a_place_pins_what_it_scales():
    graph = graph_of(
        conv(4), conv(1), section("scale_channels", from_=0, scale_wh=1), conv(2), conv(3)
    )
    assert graph.reason(0) == "is scaled place by place by [scale_channels]"
    assert graph.reason(1) == "feeds a [scale_channels] with one factor a place"
    assert families_of(graph) == {((3,), (1, 2), 1, 1)}


def test_shared_convolutions_count_once_and_keep_their_inputs():
    graph = graph_of(conv(3), conv(3), conv(3, share_index=1), conv(2))
    assert groups_of(graph) == expected(graph, same(1, 2, range(3)))
    assert graph.reason(0) == "feeds convolutions that share their weights"
    assert graph.producers == [0, 1, 3]
    apart = graph_of(
        conv(3), conv(2), section("route", layers=0), conv(2, share_index=1),
        section("route", layers="1,3"), conv(3),
    )  # fmt: skip
    assert groups_of(apart) == expected(
        apart,
        same(0, 2, range(3)),
        ((1, FIRST), (3, FIRST)),
        ((1, FIRST), (4, FIRST)),
        ((1, FIRST), (4, SECOND)),
    )
    assert families_of(apart) == {((1,), (1, 2), 1, 1)}


@pytest.mark.parametrize("kind", ["reorg", "reorg3d"])
def test_reorganisations_that_mix_pin_their_input(kind):
    options = {} if kind == "reorg" else {"reverse": 1}
    graph = graph_of(conv(16), section(kind, stride=2, **options), conv(4), conv(3))
    assert graph.reason(0) == f"feeds a [{kind}] that mixes channels and places".replace(
        "[reorg] that", "[reorg], which"
    )
    assert graph.reason(1) == f"comes from [{kind}]"
    assert families_of(graph) == {((2,), (1, 4), 1, 1)}


def test_space_to_depth_repeats_its_channels():
    graph = graph_of(conv(4), section("reorg3d", stride=2), conv(3))
    assert groups_of(graph) == expected(
        graph, *(((0, ALL), (1, range(4 * n, 4 * n + 4))) for n in range(4))
    )
    assert families_of(graph) == {((0,), (1, 4), 1, 1)}


def test_spatial_pyramid_pooling():
    pools = [section("maxpool", size=5, stride=1), section("route", layers=0)] * 2
    graph = graph_of(
        conv(4), *pools, section("maxpool", size=9, stride=1),
        section("route", layers="-1,3,1,0"), conv(3),
    )  # fmt: skip
    assert groups_of(graph) == expected(
        graph,
        *(same(0, n) for n in range(1, 6)),
        *(((0, ALL), (6, range(4 * n, 4 * n + 4))) for n in range(4)),
    )
    assert families_of(graph) == {((0,), (1, 4), 1, 1)}


def test_a_shortcut_over_a_concatenation():
    graph = graph_of(
        conv(2), conv(2), section("route", layers="0,1"), conv(4), section("shortcut", from_=2),
        conv(3),
    )  # fmt: skip
    assert groups_of(graph) == expected(
        graph, ((0, FIRST), (2, FIRST)), ((1, FIRST), (2, SECOND)), same(2, 3), same(2, 4)
    )
    assert families_of(graph) == {((0, 3), (1, 2), 1, 2), ((1, 3), (1, 2), 1, 2)}
    assert [f.name for f in graph.families] == [(0, 0), (1, 0)]


def test_two_families_that_begin_in_one_section_have_names_of_their_own():
    graph = graph_of(
        conv(8), conv(4), conv(4), section("route", layers="-1,-2"),
        section("shortcut", from_=0), conv(3),
    )  # fmt: skip
    assert {(f.sections, f.name) for f in graph.families} == {((0, 1), (0, 4)), ((0, 2), (0, 0))}


def test_a_grouped_convolution_behind_a_concatenation():
    graph = graph_of(conv(4), conv(4), section("route", layers="0,1"), conv(6, groups=2), conv(3))
    assert families_of(graph) == {((0, 1), (2, 4), 1, 2), ((3,), (2, 3), 2, 2)}


def test_parts_that_go_on_in_other_sections_are_families_of_their_own():
    graph = graph_of(
        conv(4), conv(4), conv(8), section("route", layers="0,1,2"), conv(6, groups=2), conv(3)
    )
    assert families_of(graph) == {
        ((0, 2), (2, 4), 1, 2),
        ((1, 2), (2, 4), 1, 2),
        ((4,), (2, 3), 2, 2),
    }


def test_parts_that_overlap_stay():
    graph = graph_of(
        conv(8), section("route", layers=0, groups=2), conv(4, groups=2), conv(2), conv(3)
    )
    assert graph.reason(0) == "belongs to parts that overlap"
    assert families_of(graph) == {((2,), (2, 2), 2, 2), ((3,), (1, 2), 1, 1)}


def test_finer_parts_stand_for_coarser_ones():
    graph = graph_of(conv(8), conv(8, groups=4), section("route", layers=0, groups=2), conv(3))
    assert ((0,), (4, 2), 4, 4) in families_of(graph)


def test_the_same_channels_in_two_parts_stay():
    graph = graph_of(conv(4), section("route", layers="0,0"), conv(4, groups=2), conv(3))
    assert graph.reason(0) == "appears in several parts of one section"


def test_shortcuts_of_unequal_widths_stay_with_what_is_behind_them():
    graph = graph_of(conv(5), conv(4), conv(2), section("shortcut", from_=1), conv(2), conv(3))
    reason = "belongs to a [shortcut] of unequal widths"
    assert [graph.reason(i) for i in range(5)] == [reason, reason, reason, reason, None]


def test_learned_constants_keep_what_they_are_tied_to():
    """An [implicit] has no filters: beside it, a part can't become narrower."""
    graph = graph_of(
        conv(4), section("avgpool"), section("implicit", filters=4),
        section("route", layers="-1,-2"), conv(6, groups=2), conv(3),
    )  # fmt: skip
    assert graph.reason(2) == "comes from no filters"
    assert graph.reason(0) == "must stay as wide as another part of its section"
    assert families_of(graph) == {((4,), (2, 3), 2, 2)}


def test_learned_factors_go_with_what_they_scale():
    graph = graph_of(
        conv(4), section("implicit", filters=4), section("scale_channels", from_=0), conv(3)
    )
    assert groups_of(graph) == expected(graph, same(0, 1), same(0, 2))
    assert families_of(graph) == {((0,), (1, 4), 1, 1)}


def test_every_section_of_learned_factors_keeps_one():
    """A depthwise convolution behind two [implicit]s: neither of them may end up empty."""
    graph = graph_of(
        conv(4), section("avgpool"), section("implicit", filters=2),
        section("route", layers="-1,-2"), section("implicit", filters=3),
        section("route", layers="-1,-2"), conv(9, groups=9), conv(3),
    )  # fmt: skip
    assert [family.name for family in graph.families] == [(0, 0), (6, 0), (6, 3)]


def test_heads_pin_their_input_and_unused_outputs_stay():
    graph = graph_of(
        conv(4), conv(12, size=1), section("yolo", classes=1, num=2), section("route", layers=0),
        conv(5),
    )  # fmt: skip
    assert graph.reason(1) == "feeds a [yolo] head"
    assert graph.reason(4) == "is used by no other section"
    assert families_of(graph) == {((0,), (1, 4), 1, 1)}


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ((conv(4), section("crop", crop_width=4, crop_height=4)), "feeds a [crop]"),
        (
            (conv(9), section("lrn")),
            "feeds a [lrn], which mixes neighbouring channels",
        ),
        ((conv(4), section("maxpool", maxpool_depth=1)), "feeds a [maxpool] over channels"),
        (
            (conv(4, activation="normalize_channels"),),
            "activation=normalize_channels mixes its channels",
        ),
    ],
)
def test_sections_that_pin_say_why(sections, reason):
    graph = graph_of(*sections, conv(3))
    assert graph.reason(0) == reason
    assert not graph.prunable(0)


def test_a_network_without_filters_has_no_families():
    assert graph_of(section("maxpool", size=2)).families == ()
    assert graph_of(conv(4)).families == ()


def naive_groups(graph):
    """The ties of every section type, in loops, from what the sections compute."""
    ties = Ties(graph)
    for i, layer in enumerate(graph.network.layers):
        kind, sources = layer.section.type, layer.sources
        widths, width = [shape.channels for shape in layer.inputs], layer.out_shape.channels
        passes = ("batchnorm", "activation", "dropout", "cost", "avgpool", "local_avgpool",
                  "upsample", "crop", "normalization")  # fmt: skip
        if kind in passes or layer.is_head:
            for c in range(width):
                ties.tie((i, c), (sources[0], c))
        elif kind in ("maxpool", "reorg", "reorg3d"):
            mixes = kind == "reorg" or getattr(layer, "reverse", False)
            mixes = mixes or getattr(layer, "depth", False)
            for c in range(0 if mixes and width != widths[0] else width):
                ties.tie((i, c), (sources[0], c % widths[0]))
        elif kind == "route":
            c = 0
            for source, channels in zip(sources, widths, strict=True):
                size = channels // layer.groups
                for d in range(layer.group_id * size, (layer.group_id + 1) * size):
                    ties.tie((i, c), (source, d))
                    c += 1
        elif kind in ("shortcut", "sam", "scale_channels"):
            kept = sources[0] if kind == "shortcut" else sources[1]
            for source, channels in zip(sources, widths, strict=True):
                if source == kept or not getattr(layer, "scale_wh", False) or width == 1:
                    for c in range(min(channels, width)):
                        ties.tie((i, c), (source, c))
        elif kind == "convolutional":
            if 1 < layer.groups == widths[0]:
                for c in range(width):
                    ties.tie((i, c), (sources[0], c // (width // widths[0])))
            if layer.owner:
                for c in range(width):
                    ties.tie((i, c), (layer.owner.section.index, c))
    return ties.groups()


@settings(suppress_health_check=list(HealthCheck), max_examples=60)
@given(cfg_texts())
def test_the_groups_are_those_of_a_naive_union_find(text):
    graph = ChannelGraph(Network(Cfg(text.encode())))
    assert groups_of(graph) == naive_groups(graph)


@settings(suppress_health_check=list(HealthCheck), max_examples=60)
@given(cfg_texts())
def test_families_are_disjoint_free_and_alike(text):
    graph = ChannelGraph(Network(Cfg(text.encode())))
    groups = np.concatenate([np.zeros(0, int), *(f.groups.ravel() for f in graph.families)])
    assert len(np.unique(groups)) == len(groups)
    assert not graph.pinned[groups].any()
    names = [family.name for family in graph.families]
    assert len(set(names)) == len(names)
    for family in graph.families:
        in_all = np.zeros(graph.size, int)
        for i in graph.producers:
            ids = graph.outputs[i]
            counts = np.bincount(ids, minlength=graph.size)
            in_all += counts
            per_slot = counts[family.groups].sum(0)
            assert len(set(per_slot.tolist())) == 1
            assert (per_slot[0] > 0) == (i in family.sections)
            assert per_slot[0] == 0 or per_slot[0] >= family.unit
        assert (in_all[family.groups].sum(0) == family.cost).all()
        section, channel = family.name
        assert graph.outputs[section][channel] in family.groups
    for i in graph.producers:
        free = ~graph.pinned[graph.outputs[i]]
        assert np.isin(graph.outputs[i][free], groups).all()
