"""The order in which slots go, and what stays of every family."""

import math

import numpy as np
import pytest
import torch
from cfgs import NET, conv, shortcut
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_cfg import sample, samples
from specs import CHANNEL_STRATEGIES, DATA_FREE, Trial, modes, spec

from pruning.cut.folding import Folding
from pruning.cut.plan import Plan
from pruning.graph.channels import ChannelGraph
from pruning.registry import COMPARISONS
from pruning.selection.importance import Model
from pruning.selection.schedule import Schedule
from yolo.errors import PlanError

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)

# The order in which slots go


@SLOW
@given(samples(), modes, st.sampled_from(tuple(COMPARISONS)), st.sampled_from(DATA_FREE))
def test_every_order_takes_the_worst_slots_of_a_family_first(case, mode, compare, importance):
    trial = Trial(case, mode, percent=0.0, compare=compare, importance=importance)
    schedule = trial.schedule()
    count = np.bincount(schedule.order, minlength=len(schedule.ranked.candidates))
    for candidate, gone in zip(schedule.ranked.candidates, count, strict=True):
        assert gone == candidate.family.slots - candidate.least
        assert (np.diff(candidate.scores) <= 0).all()


@SLOW
@given(samples(), modes, st.sampled_from(("layer", "isomorphic")), st.floats(0, 1))
def test_all_that_arent_compared_lose_the_same_share(case, mode, compare, part):
    trial = Trial(case, mode, percent=0.0, compare=compare)
    schedule = trial.schedule()
    candidates = schedule.ranked.candidates
    forms = COMPARISONS[compare].load()(Model(trial.graph, case.state), candidates)
    steps = round(part * len(schedule))
    gone = np.bincount(schedule.order[:steps], minlength=len(candidates))
    shares = []
    for form in set(forms):
        mine = [n for n, other in enumerate(forms) if other == form]
        pool = sum(candidates[n].channels for n in mine)
        lost = sum(candidates[n].family.cost * gone[n] for n in mine)
        room = sum(candidates[n].family.cost * candidates[n].least for n in mine)
        half = max(candidates[n].family.cost for n in mine) / 2 / pool
        shares.append(((lost / pool), half, lost + room == pool))
    # half a slot more or less; what has reached its floor has stopped
    for share, half, done in shares:
        for other, other_half, _ in shares:
            assert done or share >= other - half - other_half - 1e-9


def test_equal_shapes_are_ranked_together():
    """Sections 1 and 2 have equal weights before and behind them; 0 and 3 are like no other."""
    case = sample(NET + conv(8) * 4 + conv(3))
    for index, scale in enumerate((9.0, 1.0, 2.0, 0.1)):
        case.state[index]["scales"][:] = scale
    keep = Trial(case, "none", "normal", 0.5, compare="isomorphic").plan().keep
    assert {i: len(kept) for i, kept in keep.items()} == {0: 4, 1: 1, 2: 7, 3: 4}


def test_compared_by_layer_every_layer_loses_the_same():
    case = sample(NET + conv(8) + conv(16) + conv(4) + conv(3))
    case.state[0]["scales"][:] = 100
    case.state[2]["scales"][:] = 0
    keep = Trial(case, "none", "normal", 0.5, compare="layer").plan().keep
    assert {i: len(kept) for i, kept in keep.items()} == {0: 4, 1: 8, 2: 2}


@SLOW
@given(samples(), modes)
def test_per_mac_divides_by_what_the_built_network_saves(case, mode):
    bare, divided = (
        Trial(case, mode, percent=0.0, per_mac=per_mac).schedule().ranked
        for per_mac in (False, True)
    )
    trial = Trial(case, "none", percent=0.0)
    original = case.network.macs()
    for before, after in zip(bare.candidates, divided.candidates, strict=True):
        assume(before.family.slots > 1)
        alive = np.ones(trial.graph.size, bool)
        alive[before.family.groups[:, -1]] = False
        saved = original - trial.built(Plan.of(trial.graph, alive, "x", 0)).macs()
        np.testing.assert_allclose(after.scores * saved, before.scores, rtol=1e-12)
        np.testing.assert_array_equal(after.ranked, before.ranked)


def test_per_mac_cuts_where_it_saves_most():
    """All γ are alike, but section 0 works on four times as many positions."""
    case = sample(NET + conv(4) + conv(4, stride=2) + conv(4) + conv(3))
    for index in (0, 1, 2):
        case.state[index]["scales"][:] = torch.tensor([1.0, 1.1, 1.2, 1.3])
    plan = Trial(case, "none", "normal", 3 / 12, per_mac=True).plan()
    assert plan.keep == {0: (3,)}


# What stays


@SLOW
@given(samples(), modes, st.sampled_from(CHANNEL_STRATEGIES), st.floats(0, 1))
def test_every_family_keeps_its_share(case, mode, strategy, share):
    assume(strategy != "tiny" or not any(x.section.type == "shortcut" for x in case.network.layers))
    schedule = Trial(case, mode, strategy, percent=0.0, layer_keep=share).schedule()
    fold = schedule.at(len(schedule)).fold
    for candidate in schedule.ranked.candidates:
        family = candidate.family
        kept = fold.alive[family.groups].sum(1)
        assert (kept >= math.ceil(share * family.slots * (1 - 1e-12))).all()
    for share in (0.1, 0.3, 0.7):  # ten times that are original slots
        asked = spec("shortcut", 0.0, layer_keep=share)
        ten = Schedule(
            Model(ChannelGraph(TEN.network), TEN.state), asked, Folding(TEN_GRAPH, TEN.state)
        )
        assert ten.ranked.candidates[0].floor == round(10 * share)


TEN = sample(NET + conv(10) + conv(3))
TEN_GRAPH = ChannelGraph(TEN.network)


def test_slim_keeps_what_any_of_its_sections_needs():
    """γ 1, 2, 3, 4 and 9, 1, 1, 5 in a shortcut: half of them are up to 2, which is one channel."""
    case = sample(NET + conv(4) + conv(4) + shortcut(0) + conv(2))
    case.state[0]["scales"][:] = torch.tensor([1.0, 2, 3, 4])
    case.state[1]["scales"][:] = torch.tensor([9.0, -1, 1, 5])
    slim = Trial(case, "none", "slim", 0.5).plan()
    assert slim.keep == {0: (0, 2, 3), 1: (0, 2, 3)}
    first = Trial(case, "none", "slim", 0.5, group="first").plan()
    assert first.keep == Trial(case, "none", "shortcut", 0.5).plan().keep == {0: (2, 3), 1: (2, 3)}


def test_slim_leaves_a_hundredth_of_every_layer():
    case = sample(NET + conv(300, size=1) + conv(8, size=1) + conv(3))
    case.state[0]["scales"][:] = 0.01
    case.state[1]["scales"][:] = 1
    percent = 299 / 308
    assert {
        i: len(kept) for i, kept in Trial(case, "none", "shortcut", percent).plan().keep.items()
    } == {0: 1}
    assert {
        i: len(kept) for i, kept in Trial(case, "none", "slim", percent).plan().keep.items()
    } == {0: 3}
    with pytest.raises(PlanError, match=r"keeping at least 1 and a share of 0.5 of every layer"):
        Trial(case, "none", "slim", percent, layer_keep=0.5).plan()
