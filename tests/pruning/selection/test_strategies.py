"""Strategies: what they may cut, how much goes, and which channels."""

import pytest
import torch
from cfgs import NET, conv, maxpool, route, shortcut
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_cfg import sample, samples
from specs import MODES, Trial, modes, spec

from pruning.cut.folding import Folding
from pruning.graph.channels import ChannelGraph
from pruning.registry import GROUP_SCORES
from pruning.selection.importance import Model, channel_scores, group_scores
from pruning.selection.select import select
from yolo.errors import PlanError

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)


percents = st.floats(0, 1, exclude_max=True)
kinds = st.sampled_from(("normal", "shortcut"))


@SLOW
@given(samples(), modes, kinds, percents, st.integers(1, 3), st.sampled_from(tuple(GROUP_SCORES)))
def test_as_many_channels_go_as_are_asked_for(case, mode, kind, percent, keep_min, group):
    trial = Trial(case, mode, strategy=kind, percent=percent, keep_min=keep_min, group=group)
    if percent and not trial.pool():
        with pytest.raises(PlanError, match="finds nothing that it may cut"):
            trial.plan()
        return
    target = round(percent * trial.pool())
    if target > round(trial.reach() * trial.pool()):
        with pytest.raises(PlanError, match="out of reach"):
            trial.plan()
        return
    fold = trial.fold()
    gone, candidates = trial.cut(fold), trial.candidates()
    largest = max((family.cost for family in candidates), default=0)
    assert gone - target <= largest / 2
    if group != "union":
        assert target - gone <= largest / 2
    for family in trial.graph.families:
        if family not in candidates:
            assert fold.alive[family.groups].all()
    for i in trial.graph.producers:
        ids = trial.graph.outputs[i]
        assert fold.alive[ids].sum() >= min(keep_min, len(ids))


@SLOW
@given(samples(), modes, st.sampled_from(("normal", "shortcut", "regular")), st.integers(1, 3))
def test_beyond_reach_the_error_says_what_can_be_reached(case, mode, kind, keep_min):
    trial = Trial(case, mode, strategy=kind, percent=1 - 1e-9, keep_min=keep_min)
    assume(trial.pool() > 0)
    with pytest.raises(PlanError, match=r"out of reach: \w+ can cut [0-9.]+ ") as error:
        trial.plan()
    said = float(str(error.value).split("can cut ")[1].split()[0])
    assert said <= trial.reach() < said + 1e-3
    for percent in (said, trial.reach()):
        reached = Trial(case, mode, strategy=kind, percent=percent, keep_min=keep_min)
        gone = reached.cut(reached.fold())
        assert kind == "regular" or gone <= round(percent * trial.pool())
    assert kind == "regular" or gone == round(trial.reach() * trial.pool())


@SLOW
@given(samples(), modes, st.floats(0, 0.9), st.sampled_from((None, 2, 3, 4)))
def test_rounded_counts_hold_their_constant_channel(case, mode, percent, multiple):
    trial = Trial(case, mode, strategy="regular", percent=percent, round_to=multiple)
    assume(percent <= trial.reach())
    fold = trial.fold()
    for family in trial.candidates():
        count = int(fold.kept[family.groups[0]].sum())
        channels = count * family.unit
        if count < family.slots and multiple:
            assert channels % multiple == 0
        elif count < family.slots:
            assert channels >= 8
            assert channels & (channels - 1) == 0


@SLOW
@given(samples(), modes, kinds, st.sampled_from((0.0, 0.5)))
def test_ties_and_dead_layers_are_no_problem(case, mode, kind, value):
    for tensors in case.state.values():
        tensors.get("scales", torch.zeros(1)).fill_(value)
    trial = Trial(case, mode, strategy=kind, percent=0)
    target = int(trial.reach() * trial.pool())
    half = Trial(case, mode, strategy=kind, percent=target / 2 / max(1, trial.pool()))
    largest = max((family.cost for family in trial.candidates()), default=1)
    assert abs(half.cut(half.fold()) - target / 2) <= largest


def brute_scores(graph, scores, how):
    """Group by group, channel by channel."""
    by_group = {}
    for i in graph.producers:
        for group, score in zip(graph.outputs[i].tolist(), scores[i].tolist(), strict=True):
            by_group.setdefault(group, []).append((i, score))
    reduce = {"max": max, "union": max, "sum": sum, "mean": lambda s: sum(s) / len(s)}
    if how == "first":
        return {g: [s for i, s in pairs if i == pairs[0][0]] for g, pairs in by_group.items()}
    return {g: [reduce[how]([s for _, s in pairs])] for g, pairs in by_group.items()}


@SLOW
@given(samples(), st.sampled_from(tuple(GROUP_SCORES)))
def test_group_scores_against_brute_force(case, how):
    graph = ChannelGraph(case.network)
    scores = channel_scores(graph, case.state)
    by_group = group_scores(graph, scores, how)
    for group, allowed in brute_scores(graph, scores, how).items():
        assert any(by_group[group] == pytest.approx(value, rel=1e-12) for value in allowed)


RESIDUAL = NET + conv(4) + conv(4) + shortcut(0) + conv(2)


def residual(first, second):
    case = sample(RESIDUAL)
    case.state[0]["scales"][:] = torch.tensor(first)
    case.state[1]["scales"][:] = torch.tensor(second)
    return case


@pytest.mark.parametrize(
    ("group", "kept"),
    [
        ("first", (2, 3)),
        ("max", (0, 3)),
        ("mean", (0, 3)),
        ("sum", (0, 3)),
        ("union", (0, 2, 3)),
    ],
)
def test_the_group_score_decides_which_channels_of_a_shortcut_stay(group, kept):
    """γ 1, 2, 3, 4 in the first and 9, -1, 1, 5 in the second convolution."""
    case = residual([1.0, 2, 3, 4], [9.0, -1, 1, 5])
    trial = Trial(case, "none", strategy="shortcut", percent=0.5, group=group)
    assert trial.plan().keep == {0: kept, 1: kept}


def test_normal_spares_what_shortcuts_touch_and_what_feeds_an_upsample():
    text = NET + conv(4) + conv(6) + conv(4) + shortcut(0) + conv(8)
    text += conv(5) + "[upsample]\n" + conv(3)
    trial = Trial(sample(text), "none", strategy="normal", percent=0.4)
    assert [family.sections for family in trial.candidates()] == [(1,), (4,)]
    assert set(trial.plan().keep) <= {1, 4}


def test_tiny_is_normal_but_refuses_shortcuts():
    text = NET + conv(8) + maxpool() + conv(6) + conv(3)
    case = sample(text)
    tiny, normal = (Trial(case, "auto", strategy=s, percent=0.5) for s in ("tiny", "normal"))
    assert tiny.plan().keep == normal.plan().keep
    with pytest.raises(PlanError, match=r"x.cfg:17: \[shortcut\] strategy tiny is for networks"):
        Trial(sample(RESIDUAL), "auto", strategy="tiny", percent=0.5).plan()


def test_the_lowest_scales_of_all_layers_go():
    case = sample(NET + conv(4) + conv(4) + conv(3))
    case.state[0]["scales"][:] = torch.tensor([0.4, -0.1, 0.2, 5])
    case.state[1]["scales"][:] = torch.tensor([-0.3, 3, -4, 5])
    trial = Trial(case, "none", strategy="normal", percent=3 / 8)
    assert trial.plan().keep == {0: (0, 3), 1: (1, 2, 3)}


def test_without_normalisation_the_norm_of_a_filter_is_its_score():
    case = sample(NET + conv(4, batch_normalize=0) + conv(3))
    filters = case.state[0]["weights"].flatten(1)
    filters *= torch.tensor([[3.0], [1], [4], [2]]) / filters.norm(dim=1, keepdim=True)
    trial = Trial(case, "none", strategy="normal", percent=0.5)
    assert trial.plan().keep == {0: (0, 2)}


def test_parts_keep_equally_many_and_each_its_best():
    case = sample(NET + conv(8) + conv(4, groups=2) + conv(3))
    case.state[0]["scales"][:] = torch.tensor([1.0, 9, 2, 8, 1, 0.5, 4, 3])
    case.state[1]["scales"][:] = 100
    trial = Trial(case, "none", strategy="normal", percent=4 / 12)
    assert trial.plan().keep == {0: (1, 3, 6, 7)}


def test_the_narrowest_section_of_a_group_keeps_its_minimum():
    """Sections 0 and 1 are one channel of section 3 each; 0 stands twice in it."""
    text = NET + conv(4) + route(0, 0) + conv(8) + shortcut(1) + conv(3)
    trial = Trial(sample(text), "none", strategy="shortcut", percent=0, keep_min=3)
    assert trial.reach() == pytest.approx(1 / 4)


@pytest.mark.parametrize("mode", MODES)
def test_spare_and_only(mode):
    case = sample(NET + conv(8) + conv(8) + conv(8) + conv(3))
    spared = Trial(case, mode, strategy="normal", percent=0.5, spare=(0, 2)).plan()
    only = Trial(case, mode, strategy="normal", percent=0.5, only=(1,)).plan()
    assert set(spared.keep) == {1}
    assert spared.keep == only.keep
    both = Trial(case, mode, strategy="normal", percent=0, only=(0, 1), spare=(1,))
    assert both.reach() in (7 / 8, 6 / 8)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"percent": -0.1}, "percent -0.1: expected at least 0"),
        ({"percent": 1.0}, "percent 1: expected at least 0 and less than 1"),
        ({"percent": float("nan")}, "percent nan: expected"),
        ({"percent": 0.5, "keep_min": 0}, "keep-min 0: expected at least 1"),
        ({"percent": 0.5, "spare": (9,)}, "--spare 9: sections are numbered from 0 to 3"),
        ({"percent": 0.5, "only": (-1,)}, "--only -1: sections are numbered"),
    ],
)
def test_wrong_limits_are_refused(asked, message):
    with pytest.raises(PlanError, match=message):
        Trial(sample(RESIDUAL), "auto", strategy="shortcut", **asked).plan()


def test_a_constant_channel_counts_inside_a_power_of_two():
    case = sample(NET + conv(16) + conv(3))
    ids = ChannelGraph(case.network).outputs[0]
    smaller = Trial(case, "exact", strategy="regular", percent=0.6).fold()
    assert smaller.kept[ids].sum() == 8
    assert smaller.alive[ids].sum() == 7
    assert not Trial(case, "exact", strategy="regular", percent=0.4).plan().keep


def test_the_slots_with_the_lowest_scores_go_and_no_others():
    """A slot too large for what is left isn't passed over for important ones behind it."""
    chain = conv(12, size=1) + (conv(12, size=1) + shortcut(-2)) * 2
    case = sample(NET + chain + conv(10, size=1) + conv(4))
    for index in (0, 1, 3):
        case.state[index]["scales"][:] = 0.01
    case.state[5]["scales"][:] = 100.0
    graph = ChannelGraph(case.network)
    folding = Folding(graph, case.state, "mean")
    for percent in (0.26, 0.28, 0.5):
        plan = select(Model(graph, case.state), spec("shortcut", percent), folding)
        assert plan.alive(graph)[graph.outputs[5]].all()


def test_a_spec_that_cuts_nothing_says_why():
    case = sample(NET + conv(4))
    graph = ChannelGraph(case.network)
    folding = Folding(graph, case.state, "auto")
    with pytest.raises(PlanError, match="normal finds nothing that it may cut"):
        select(Model(graph, case.state), spec("normal", 0.5), folding)
    with pytest.raises(PlanError, match="--only 0: can't be cut: it is the network's output"):
        select(Model(graph, case.state), spec("normal", 0.5, only=(0,)), folding)


def test_only_sections_with_filters_can_be_named():
    case = sample(NET + conv(4) + maxpool() + conv(4) + conv(2))
    graph = ChannelGraph(case.network)
    folding = Folding(graph, case.state, "auto")
    for asked in (spec("normal", 0.5, only=(1,)), spec("normal", 0.5, spare=(1,))):
        with pytest.raises(PlanError, match=r"1: has no filters to cut"):
            select(Model(graph, case.state), asked, folding)
