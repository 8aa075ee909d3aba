"""Budgets: the least cut that meets every target."""

import math

import pytest
from cfgs import NET, conv
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from random_cfg import sample, samples
from specs import Trial, cost_of, modes

from pruning.registry import COMPARISONS, GROUP_SCORES
from pruning.selection.budget import steps_to_meet
from pruning.spec import KINDS, Targets
from pruning.spec.targets import Quantity
from yolo.errors import PlanError

SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
roundings = st.sampled_from((None, None, 0, 4))
kinds = st.sampled_from(tuple(name for name, kind in KINDS.items() if kind.share))


@st.composite
def wanted(draw):
    """One or two targets, as shares."""
    names = draw(st.lists(kinds, min_size=1, max_size=2, unique=True))
    return ",".join(f"{name}={draw(st.integers(1, 99)) / 100}" for name in names)


def meets(costs, original, target):
    for t in Targets.parse(target).all:
        if getattr(costs, t.name) > t.limit * getattr(original, t.name) * (1 + 1e-9):
            return False
    return True


@SLOW
@given(
    samples(),
    modes,
    st.sampled_from(("normal", "shortcut", "slim", "regular")),
    wanted(),
    roundings,
    st.sampled_from(tuple(COMPARISONS)),
    st.sampled_from(tuple(GROUP_SCORES)),
)
def test_the_least_cut_that_meets_all_targets(case, mode, kind, target, rounding, compare, group):
    trial = Trial(case, mode, kind, target=target, round_to=rounding, compare=compare, group=group)
    schedule, original = trial.schedule(), cost_of(case.network)
    try:
        plan = trial.plan()
    except PlanError:
        assert not meets(trial.cost(schedule.at(len(schedule)).fold), original, target)
        return
    built = trial.built(plan)
    assert meets(cost_of(built), original, target)
    steps = next(n for n in range(len(schedule) + 1) if schedule.at(n).plan == plan)
    if steps:
        assert not meets(trial.cost(schedule.at(steps - 1).fold), original, target)
    multiple = trial.spec.round_to
    for candidate, kept in zip(schedule.ranked.candidates, trial.kept(plan), strict=True):
        if multiple and kept < candidate.family.slots:
            assert kept * candidate.family.unit % multiple == 0


@SLOW
@given(samples(), modes, kinds)
def test_the_nearest_is_within_reach(case, mode, kind):
    trial = Trial(case, mode, target=f"{kind}=2")
    schedule = trial.schedule()
    left = getattr(trial.cost(schedule.at(len(schedule)).fold), kind)
    assume(left > 2)
    with pytest.raises(PlanError, match=f"target {kind}=2 is out of reach: shortcut") as error:
        trial.plan()
    nearest = str(error.value).split("leaves at least ")[1].split(",")[0]
    least = int(nearest.partition("=")[2])
    assert nearest == f"{kind}={least}"
    reached = Trial(case, mode, target=nearest)
    assert getattr(cost_of(reached.built(reached.plan())), kind) == least
    share = Trial(case, mode, target=f"{kind}=0.00001")
    assert least == left
    assume(left > 1e-5 * getattr(cost_of(case.network), kind))
    with pytest.raises(PlanError) as error:
        share.plan()
    said = str(error.value).split("leaves at least ")[1].split(" (")[0]
    if not said.endswith("=1"):
        assert Trial(case, mode, target=said).plan().target == said


@SLOW
@given(samples(), modes)
def test_what_is_met_already_cuts_nothing(case, mode):
    plan = Trial(case, mode, target="macs=999G,params=999G").plan()
    assert (plan.keep, plan.percent) == ({}, None)
    assert plan.target == "macs=999G,parameters=999G"


def test_a_target_where_nothing_can_be_cut():
    case = sample(NET + conv(4))
    assert Trial(case, target="macs=1G").plan().keep == {}
    with pytest.raises(PlanError, match=r"shortcut leaves at least macs=1 \(6912 of 6912\)"):
        Trial(case, target="macs=0.9").plan()


def test_constant_channels_count():
    case = sample(NET + conv(16, size=1) + conv(3))
    layers = {}
    for mode in ("exact", "none"):
        trial = Trial(case, mode, "normal", target="channels=11")
        plan = trial.plan()
        layers[mode] = len(plan.keep[0]), trial.built(plan).layers[0].out_shape.channels
    assert layers == {"exact": (7, 8), "none": (8, 8)}


def measured(value, calls):
    def of(plan, fold):
        calls.append(fold)
        return value(fold)

    return of


def extended(monkeypatch):
    monkeypatch.setitem(KINDS, "ms", Quantity("ms", "milliseconds"))
    monkeypatch.setitem(KINDS, "drop", Quantity("drop", "what is lost", grows=True))


@pytest.mark.parametrize(
    ("target", "gone"),
    [
        ("ms=20", 12),
        ("ms=1.5k", 0),
        ("drop=0.1", 10),
        ("drop=0", 0),
        ("drop=99", 31),
        ("ms=24,drop=0.1", 8),
        ("drop=0.1,channels=26", 9),
    ],
)
def test_targets_that_others_measure(monkeypatch, target, gone):
    """A ms a channel; what is lost is a hundredth of a channel."""
    extended(monkeypatch)
    case, calls = sample(NET + conv(32) + conv(3)), []
    trial = Trial(case, "none", "normal", target=target)
    alive = trial.graph.outputs[0]
    measures = trial.costs.measures() | {
        "ms": measured(lambda fold: float(fold.kept[alive].sum()), calls),
        "drop": measured(lambda fold: (~fold.kept[alive]).sum() / 100, calls),
    }
    plan = trial.plan(measures=measures)
    assert 32 - len(plan.keep.get(0, range(32))) == gone
    assert len({fold.kept.tobytes() for fold in calls}) <= 2 + math.ceil(math.log2(32))


def test_targets_that_contradict_each_other(monkeypatch):
    extended(monkeypatch)
    trial = Trial(sample(NET + conv(32) + conv(3)), "none", "normal", target="macs=0.5,drop=0.1")
    measures = trial.costs.measures() | {"drop": lambda plan, fold: (~fold.kept).sum() / 100}
    message = "target drop=0.1 is out of reach: the least cut for macs=0.5 has drop=0.16"
    with pytest.raises(PlanError, match=message):
        trial.plan(measures=measures)


def test_what_is_known_but_not_measured(monkeypatch):
    extended(monkeypatch)
    with pytest.raises(PlanError, match="target ms=3: ms can't be measured here"):
        Trial(sample(NET + conv(32) + conv(3)), target="macs=0.5,ms=3").plan()


def test_costly_measures_come_last(monkeypatch):
    """Those behind a target that isn't met aren't asked."""
    extended(monkeypatch)
    case, calls = sample(NET + conv(32) + conv(3)), []
    trial = Trial(case, "none", "normal", target="macs=0.4,ms=99")
    measures = trial.costs.measures() | {"ms": measured(lambda fold: 1, calls)}
    schedule = trial.schedule()
    steps = steps_to_meet(schedule, trial.spec.targets, measures)
    original = case.network.macs()
    assert all(trial.cost(fold).macs <= 0.4 * original for fold in calls)
    assert trial.cost(schedule.at(steps).fold).macs <= 0.4 * original


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"percent": 0.5, "importance": "magic"}, "importance magic: expected one of bn, l1"),
        ({"percent": 0.5, "compare": "magic"}, "compare magic: expected one of global, layer"),
        ({"percent": 0.5, "group": "magic"}, "group magic: expected one of first"),
        ({"percent": 0.5, "strategy": "magic"}, "strategy magic: expected one of normal"),
        ({"percent": 0.5, "layer_keep": 1.1}, "layer-keep 1.1: expected a share from 0 to 1"),
        ({"percent": 0.5, "layer_keep": float("nan")}, "layer-keep nan: expected a share"),
        ({"percent": 0.5, "seed": -1}, "seed -1: expected at least 0"),
        ({"target": "macs=2M"}, "macs=2M is out of reach: .* leaves at least macs=|^$"),
    ],
)
def test_impossible_specs_are_refused(asked, message):
    case = sample(NET + conv(4) + conv(3))
    if asked.get("target") == "macs=2M":
        assert Trial(case, **asked).plan().keep == {}
        return
    with pytest.raises(PlanError, match=message):
        Trial(case, **asked).plan()
