"""Widths in steps as part of the search."""

from itertools import pairwise

import numpy as np
import pytest
from cfgs import NET, conv, maxpool, net
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_cfg import sample, samples
from specs import Trial, cost_of, modes

from pruning.measure.savings import Savings, SectionRates
from pruning.registry import AUTO, COMPARISONS
from pruning.selection.select import choose, schedule_of
from pruning.selection.stepped import SteppedSchedule
from yolo.errors import PlanError


def stepped(trial, width_step=8, rates=None):
    rates = rates or trial.costs.rates()
    return SteppedSchedule(trial.model, trial.spec, trial.folding, width_step, rates)


def counts(schedule):
    """The slots of every candidate, with constant channels, step by step."""
    kept = [schedule.at(n).fold.kept for n in range(len(schedule) + 1)]
    groups = [c.family.groups[0] for c in schedule.ranked.candidates]
    return [[int(left[own].sum()) for own in groups] for left in kept]


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
@given(samples(), modes, st.sampled_from((1, 2, 4, 8)), st.sampled_from(tuple(COMPARISONS)))
def test_widths_are_multiples_as_long_as_any_family_has_one_left(found, mode, width_step, compare):
    trial = Trial(found, mode, target="macs=1G", round_to=AUTO, compare=compare)
    schedule = stepped(trial, width_step)
    way = list(counts(schedule))
    assert way[0] == [c.family.slots for c in schedule.ranked.candidates]
    for before, after in pairwise(way):
        assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1
        assert all(a <= b for a, b in zip(after, before, strict=True))
    for number, candidate in enumerate(schedule.ranked.candidates):
        own = list(dict.fromkeys(row[number] for row in way))
        unit = candidate.family.unit
        coarse = [n for n in own[1:] if n * unit % width_step == 0]
        assert own[1 : 1 + len(coarse)] == coarse
        assert own[-1] <= candidate.least + 1  # the mean fold may do without a constant channel


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
@given(samples(), modes, st.floats(0.1, 0.9))
def test_a_budget_is_met_as_by_free_widths(found, mode, share):
    """Whatever free widths can meet, widths in steps can, too."""
    free = Trial(found, mode, target=f"macs={share:.3f}")
    trial = Trial(found, mode, target=f"macs={share:.3f}", round_to=AUTO)
    original = cost_of(found.network).macs
    try:
        free.plan()
    except PlanError:
        with pytest.raises(PlanError, match="is out of reach"):
            trial.plan()
        return
    assert cost_of(trial.built(trial.plan())).macs <= share * original * 1.001 + 1


@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
@given(samples(), st.randoms(use_true_random=False))
def test_savings_are_what_costs_count(found, random):
    # of a grouped convolution a cut takes whole shares of every group
    assume(not any(layer.mixes and layer.groups > 1 for layer in found.network.layers))
    trial = Trial(found, "none", percent=0.5)
    families = trial.graph.families
    everything = np.ones(trial.graph.size, bool)
    for family in families:  # from a cut on, not only from the original
        everything[family.groups[:, : random.randrange(family.slots)]] = False
    left = np.array([int(everything[f.groups[0]].sum()) for f in families])
    gone = np.array([random.randint(0, n) for n in left.tolist()])
    saved = Savings(trial.graph, families, trial.costs.rates()).of(left, gone)
    for family, number, expected in zip(families, gone, saved, strict=True):
        less = everything.copy()
        for part in family.groups:
            less[part[everything[part]][:number]] = False
        counted = trial.costs.of(everything).macs - trial.costs.of(less).macs
        assert expected == pytest.approx(counted)


def test_what_loses_least_for_what_it_saves_goes_first():
    """Two families of equal scores: the one that more MACs go with is cut."""
    found = sample(net(32, 32) + conv(16) + maxpool(4, 4) + conv(16) + conv(8, size=1))
    trial = Trial(found, "none", target="macs=1G", round_to=AUTO, importance="l1", per_mac=True)
    schedule = stepped(trial)
    costs = [c.family.sections for c in schedule.ranked.candidates]
    assert costs == [(0,), (2,)]
    losses = [float(c.losses[8:].sum()) for c in schedule.ranked.candidates]
    full = trial.costs.of(schedule.at(0).fold.kept).macs
    after = []
    for left in ([8, 16], [16, 8]):
        after.append(full - trial.costs.of(schedule.cut(left).fold.kept).macs)
    first = int(np.argmin(np.array(losses) / after))
    assert counts(schedule)[1][first] == 8


def test_milliseconds_can_be_what_is_saved():
    """Where only one section takes time, only its channels are worth cutting."""
    found = sample(net(32, 32) + conv(16) + conv(16) + conv(16) + conv(8, size=1))
    trial = Trial(found, "none", target="macs=1G", round_to=AUTO, importance="l1", per_mac=True)
    nothing = np.zeros(4)
    slow = SectionRates(nothing, np.array([0, 0, 1.0, 0]), nothing)
    assert counts(stepped(trial, rates=slow))[1] == [16, 16, 8]


def test_constant_channels_count_inside():
    found = sample(net(16, 16) + conv(32) + conv(32) + conv(8))
    trial = Trial(found, "exact", target="macs=0.5", round_to=AUTO)
    kept = trial.kept(trial.plan())
    assert trial.fold().constant_channels.sum() > 0
    assert all(n % 8 == 0 for n in kept)


def test_without_a_target_there_is_nothing_to_search():
    with pytest.raises(PlanError, match="round auto chooses widths for a target"):
        Trial(sample(NET + conv(4)), percent=0.5, round_to=AUTO)


def test_the_step_is_eight_where_none_is_given():
    found = sample(net(16, 16) + conv(32) + conv(32) + conv(8))
    trial = Trial(found, "none", target="macs=0.5", round_to=AUTO)
    schedule = schedule_of(trial.model, trial.spec, trial.folding)
    assert [row[0] for row in counts(schedule)][:1] == [32]
    assert {n for row in counts(schedule)[:7] for n in row} == {32, 24, 16, 8}


def test_a_schedule_that_budgets_share_meets_each_of_them():
    found = sample(net(16, 16) + conv(32) + conv(32) + conv(8))
    trials = [Trial(found, target=f"macs={share}", round_to=AUTO) for share in (0.8, 0.3)]
    schedule = stepped(trials[0])
    for trial in trials:
        plan = choose(schedule, trial.spec)
        assert cost_of(trial.built(plan)).macs <= trial.spec.targets[0].limit * found.network.macs()
