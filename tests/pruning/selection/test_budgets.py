"""Budgets: what a cut costs, the order in which slots go, and how far that has to be."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cfgs import NET, conv, shortcut
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from paths import ROOT
from pruning.options import COMPARISONS, FOLDS, GROUP_SCORES, SENSITIVITY, SIGNAL
from pruning.options import STRATEGIES as SAID
from pruning.targets import KINDS, Kind, parse_targets
from random_cfg import sample, samples
from surgeries import cuts

from pruning import targets
from pruning.cut.folding import Folding
from pruning.cut.plan import Plan
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Costs, Spent
from pruning.run.report import cost
from pruning.selection import STRATEGIES, Wish, select
from pruning.selection import order as orders
from pruning.selection.budget import turns_to_meet
from pruning.selection.importance import IMPORTANCES, MEASURED, Model
from pruning.selection.schedule import Path as Way
from pruning.session import Job, prune
from yolo.cfg import Cfg
from yolo.errors import PlanError
from yolo.models.randomize import randomize
from yolo.models.weights import Header, save_weights, weights_size
from yolo.network import Network

DATA_FREE = tuple(name for name in IMPORTANCES if name not in (*MEASURED, SENSITIVITY, SIGNAL))
SLOW = settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=40)
CFGS = sorted(path.name for path in (ROOT / "cfg").glob("*.cfg") if "bayesian" not in path.stem)
modes = st.sampled_from(tuple(FOLDS))
roundings = st.sampled_from((None, None, 0, 4))
kinds = st.sampled_from(tuple(name for name, kind in KINDS.items() if kind.share))


def spent(network, header=None):
    """What the built network says of itself."""
    header = header or Header()
    channels = cost(network, header).channels
    size = weights_size(network, header)
    return Spent(channels, network.count_parameters(), network.macs(), size)


class Trial:
    """A wish for a network, and the way to what fulfils it."""

    def __init__(self, found, mode="auto", strategy="shortcut", percent=None, **wish):
        self.found, self.graph = found, ChannelGraph(found.network)
        self.folding = Folding(self.graph, found.state, mode)
        self.wish = Wish(strategy, percent, **wish)
        self.model = Model(self.graph, found.state, seed=self.wish.seed)
        self.costs = Costs(self.graph)

    def plan(self, **more):
        return select(self.model, self.wish, self.folding, **more)

    def way(self):
        return Way(self.model, self.wish, self.folding)

    def spent(self, fold):
        return self.costs.of(fold.kept)

    def built(self, plan):
        fold = self.folding.fold(plan.alive(self.graph), plan.mean)
        return Network.with_state(*operate(self.graph, self.found.state, fold))

    def kept(self, plan):
        """How many slots of every candidate stay, with constant channels."""
        fold = self.folding.fold(plan.alive(self.graph), plan.mean)
        return [int(fold.kept[c.family.groups[0]].sum()) for c in self.way().ranking.candidates]


# What a cut costs


@SLOW
@given(cuts())
def test_costs_are_those_of_the_built_network(cutting):
    for header in (Header(), Header(0, 1, 0)):
        assert Costs(cutting.graph, header).of(cutting.fold.kept) == spent(cutting.compact, header)


@pytest.mark.parametrize("name", CFGS)
def test_costs_of_the_networks_that_we_bring(name):
    network = Network(Cfg.load(ROOT / "cfg" / name))
    state = {
        i: {name: torch.zeros(1).expand(t.shape) for name, t in tensors.items()}
        for i, tensors in network.state().items()
    }
    graph = ChannelGraph(network)
    alive = np.ones(graph.size, bool)
    costs = Costs(graph)
    assert costs.of(alive) == spent(network)
    for n, family in enumerate(graph.families):
        alive[family.groups[:, (family.slots + n) // 2 + 1 :]] = False
    fold = Folding(graph, state, "none").fold(alive)
    assert costs.of(fold.kept) == spent(Network.with_state(*operate(graph, state, fold)))


# The order in which slots go


@SLOW
@given(samples(), modes, st.sampled_from(tuple(COMPARISONS)), st.sampled_from(DATA_FREE))
def test_every_order_takes_the_worst_slots_of_a_family_first(found, mode, compare, importance):
    trial = Trial(found, mode, percent=0.0, compare=compare, importance=importance)
    way = trial.way()
    count = np.bincount(way.order, minlength=len(way.ranking.candidates))
    for candidate, gone in zip(way.ranking.candidates, count, strict=True):
        assert gone == candidate.family.slots - candidate.least
        assert (np.diff(candidate.scores) <= 0).all()


@SLOW
@given(samples(), modes, st.sampled_from(("layer", "isomorphic")), st.floats(0, 1))
def test_all_that_arent_compared_lose_the_same_share(found, mode, compare, part):
    trial = Trial(found, mode, percent=0.0, compare=compare)
    way = trial.way()
    candidates = way.ranking.candidates
    forms = orders.COMPARISONS[compare](Model(trial.graph, found.state), candidates)
    turns = round(part * len(way))
    gone = np.bincount(way.order[:turns], minlength=len(candidates))
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
    found = sample(NET + conv(8) * 4 + conv(3))
    for index, scale in enumerate((9.0, 1.0, 2.0, 0.1)):
        found.state[index]["scales"][:] = scale
    keep = Trial(found, "none", "normal", 0.5, compare="isomorphic").plan().keep
    assert {i: len(kept) for i, kept in keep.items()} == {0: 4, 1: 1, 2: 7, 3: 4}


def test_compared_by_layer_every_layer_loses_the_same():
    found = sample(NET + conv(8) + conv(16) + conv(4) + conv(3))
    found.state[0]["scales"][:] = 100
    found.state[2]["scales"][:] = 0
    keep = Trial(found, "none", "normal", 0.5, compare="layer").plan().keep
    assert {i: len(kept) for i, kept in keep.items()} == {0: 4, 1: 8, 2: 2}


@SLOW
@given(samples(), modes)
def test_per_mac_divides_by_what_the_built_network_saves(found, mode):
    bare, divided = (
        Trial(found, mode, percent=0.0, per_mac=per_mac).way().ranking for per_mac in (False, True)
    )
    trial = Trial(found, "none", percent=0.0)
    whole = found.network.macs()
    for before, after in zip(bare.candidates, divided.candidates, strict=True):
        assume(before.family.slots > 1)
        alive = np.ones(trial.graph.size, bool)
        alive[before.family.groups[:, -1]] = False
        saved = whole - trial.built(Plan.of(trial.graph, alive, "x", 0)).macs()
        np.testing.assert_allclose(after.scores * saved, before.scores, rtol=1e-12)
        np.testing.assert_array_equal(after.ranked, before.ranked)


def test_per_mac_cuts_where_it_saves_most():
    """All γ are alike, but section 0 works on four times as many places."""
    found = sample(NET + conv(4) + conv(4, stride=2) + conv(4) + conv(3))
    for index in (0, 1, 2):
        found.state[index]["scales"][:] = torch.tensor([1.0, 1.1, 1.2, 1.3])
    plan = Trial(found, "none", "normal", 3 / 12, per_mac=True).plan()
    assert plan.keep == {0: (3,)}


# What stays


@SLOW
@given(samples(), modes, st.sampled_from(tuple(STRATEGIES)), st.floats(0, 1))
def test_every_family_keeps_its_share(found, mode, strategy, share):
    assume(
        strategy != "tiny" or not any(x.section.type == "shortcut" for x in found.network.layers)
    )
    way = Trial(found, mode, strategy, percent=0.0, layer_keep=share).way()
    fold = way.at(len(way)).fold
    for candidate in way.ranking.candidates:
        family = candidate.family
        kept = fold.alive[family.groups].sum(1)
        assert (kept >= math.ceil(share * family.slots * (1 - 1e-12))).all()
    for share in (0.1, 0.3, 0.7):  # ten times that are whole slots
        wish = Wish("shortcut", 0.0, layer_keep=share)
        ten = Way(Model(ChannelGraph(TEN.network), TEN.state), wish, Folding(TEN_GRAPH, TEN.state))
        assert ten.ranking.candidates[0].floor == round(10 * share)


TEN = sample(NET + conv(10) + conv(3))
TEN_GRAPH = ChannelGraph(TEN.network)


def test_slim_keeps_what_any_of_its_sections_needs():
    """γ 1, 2, 3, 4 and 9, 1, 1, 5 in a shortcut: half of them are up to 2, which is one channel."""
    found = sample(NET + conv(4) + conv(4) + shortcut(0) + conv(2))
    found.state[0]["scales"][:] = torch.tensor([1.0, 2, 3, 4])
    found.state[1]["scales"][:] = torch.tensor([9.0, -1, 1, 5])
    slim = Trial(found, "none", "slim", 0.5).plan()
    assert slim.keep == {0: (0, 2, 3), 1: (0, 2, 3)}
    first = Trial(found, "none", "slim", 0.5, group="first").plan()
    assert first.keep == Trial(found, "none", "shortcut", 0.5).plan().keep == {0: (2, 3), 1: (2, 3)}


def test_slim_leaves_a_hundredth_of_every_layer():
    found = sample(NET + conv(300, size=1) + conv(8, size=1) + conv(3))
    found.state[0]["scales"][:] = 0.01
    found.state[1]["scales"][:] = 1
    percent = 299 / 308
    assert {
        i: len(kept) for i, kept in Trial(found, "none", "shortcut", percent).plan().keep.items()
    } == {0: 1}
    assert {
        i: len(kept) for i, kept in Trial(found, "none", "slim", percent).plan().keep.items()
    } == {0: 3}
    with pytest.raises(PlanError, match=r"keeping at least 1 and a share of 0.5 of every layer"):
        Trial(found, "none", "slim", percent, layer_keep=0.5).plan()


# Targets


@st.composite
def wanted(draw):
    """One or two targets, as shares."""
    names = draw(st.lists(kinds, min_size=1, max_size=2, unique=True))
    return ",".join(f"{name}={draw(st.integers(1, 99)) / 100}" for name in names)


def meets(costs, whole, target):
    for t in parse_targets(target):
        if getattr(costs, t.name) > t.limit * getattr(whole, t.name) * (1 + 1e-9):
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
def test_the_least_cut_that_meets_all_targets(found, mode, kind, target, rounding, compare, group):
    trial = Trial(found, mode, kind, target=target, rounding=rounding, compare=compare, group=group)
    way, whole = trial.way(), spent(found.network)
    try:
        plan = trial.plan()
    except PlanError:
        assert not meets(trial.spent(way.at(len(way)).fold), whole, target)
        return
    built = trial.built(plan)
    assert meets(spent(built), whole, target)
    turns = next(n for n in range(len(way) + 1) if way.at(n).plan == plan)
    if turns:
        assert not meets(trial.spent(way.at(turns - 1).fold), whole, target)
    multiple = trial.wish.multiple
    for candidate, kept in zip(way.ranking.candidates, trial.kept(plan), strict=True):
        if multiple and kept < candidate.family.slots:
            assert kept * candidate.family.unit % multiple == 0


@SLOW
@given(samples(), modes, kinds)
def test_the_nearest_is_within_reach(found, mode, kind):
    trial = Trial(found, mode, target=f"{kind}=2")
    way = trial.way()
    left = getattr(trial.spent(way.at(len(way)).fold), kind)
    assume(left > 2)
    with pytest.raises(PlanError, match=f"target {kind}=2 is out of reach: shortcut") as error:
        trial.plan()
    nearest = str(error.value).split("leaves at least ")[1].split(",")[0]
    least = int(nearest.partition("=")[2])
    assert nearest == f"{kind}={least}"
    reached = Trial(found, mode, target=nearest)
    assert getattr(spent(reached.built(reached.plan())), kind) == least
    share = Trial(found, mode, target=f"{kind}=0.00001")
    assert least == left
    assume(left > 1e-5 * getattr(spent(found.network), kind))
    with pytest.raises(PlanError) as error:
        share.plan()
    said = str(error.value).split("leaves at least ")[1].split(" (")[0]
    if not said.endswith("=1"):
        assert Trial(found, mode, target=said).plan().target == said


@SLOW
@given(samples(), modes)
def test_what_is_met_already_cuts_nothing(found, mode):
    plan = Trial(found, mode, target="macs=999G,params=999G").plan()
    assert (plan.keep, plan.percent, plan.target) == ({}, None, "macs=999G,params=999G")


def test_a_target_where_nothing_can_be_cut():
    found = sample(NET + conv(4))
    assert Trial(found, target="macs=1G").plan().keep == {}
    with pytest.raises(PlanError, match=r"shortcut leaves at least macs=1 \(6912 of 6912\)"):
        Trial(found, target="macs=0.9").plan()


def test_constant_channels_count():
    found = sample(NET + conv(16, size=1) + conv(3))
    layers = {}
    for mode in ("exact", "none"):
        trial = Trial(found, mode, "normal", target="channels=11")
        plan = trial.plan()
        layers[mode] = len(plan.keep[0]), trial.built(plan).layers[0].out_shape.channels
    assert layers == {"exact": (7, 8), "none": (8, 8)}


def measured(value, calls):
    def of(plan, fold):
        calls.append(fold)
        return value(fold)

    return of


def extended(monkeypatch):
    monkeypatch.setitem(targets.KINDS, "ms", Kind("milliseconds"))
    monkeypatch.setitem(targets.KINDS, "drop", Kind("what is lost", grows=True))


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
    found, calls = sample(NET + conv(32) + conv(3)), []
    trial = Trial(found, "none", "normal", target=target)
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
    with pytest.raises(PlanError, match="target ms=3: there is nothing here that measures ms"):
        Trial(sample(NET + conv(32) + conv(3)), target="macs=0.5,ms=3").plan()


def test_costly_measures_come_last(monkeypatch):
    """Those behind a target that isn't met aren't asked."""
    extended(monkeypatch)
    found, calls = sample(NET + conv(32) + conv(3)), []
    trial = Trial(found, "none", "normal", target="macs=0.4,ms=99")
    measures = trial.costs.measures() | {"ms": measured(lambda fold: 1, calls)}
    way = trial.way()
    turns = turns_to_meet(way, trial.wish.target, measures)
    whole = found.network.macs()
    assert all(trial.spent(fold).macs <= 0.4 * whole for fold in calls)
    assert trial.spent(way.at(turns).fold).macs <= 0.4 * whole


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("macs=0.5", [("macs", 0.5, True)]),
        (" macs = .5 , bytes=2M", [("macs", 0.5, True), ("bytes", 2e6, False)]),
        ("params=300k", [("params", 3e5, False)]),
        ("params=0.5M", [("params", 5e5, False)]),
        ("macs=1.5G,channels=0.99", [("macs", 1.5e9, False), ("channels", 0.99, True)]),
        ("params=12345", [("params", 12345, False)]),
        ("macs=2e9", [("macs", 2e9, False)]),
    ],
)
def test_targets_as_they_are_written(text, limits):
    found = parse_targets(text)
    assert [(t.name, t.limit, t.share) for t in found] == limits
    assert parse_targets(",".join(map(str, found))) == found


BAD_TARGETS = {
    "": "target '': expected NAME=VALUE as in macs=0.5",
    "macs": "target 'macs': expected NAME=VALUE",
    "0.5": "target '0.5': expected NAME=VALUE",
    "macs=0.5,": "target '': expected NAME=VALUE",
    "flops=0.5": "target flops=0.5: 'flops' is none of channels, params, macs, bytes",
    "=0.5": "target =0.5: '' is none of channels",
    "macs=0.5,params=0.5,macs=0.4": "macs is there twice",
    **{
        f"macs={value}": f"target macs={value}: expected a share of the original below 1"
        for value in (
            *("", "x", "0", "0.0", "1", "1.0", "1.5", "-0.5", "nan", "inf", "0k", "50%", "1e999"),
            *("0.5m", "1 M", "2B", "0x10", "1e-999", "0.5=0.5", "½", "٣"),
        )
    },
}


@pytest.mark.parametrize("text", BAD_TARGETS)
def test_bad_targets(text):
    with pytest.raises(PlanError) as error:
        parse_targets(text)
    assert BAD_TARGETS[text] in str(error.value)


@given(st.text(max_size=12) | st.from_regex(r"macs=[0-9.kMGe+-]{0,9}", fullmatch=True))
def test_other_text_is_refused_or_means_something(text):
    try:
        found = parse_targets(text)
    except PlanError:
        return
    assert all(0 < t.limit < (1 if t.share else math.inf) for t in found)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({}, "expected a percent or a target, and not both"),
        ({"percent": 0.5, "target": "macs=0.5"}, "expected a percent or a target, and not both"),
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
def test_wishes_that_cant_be_meant(wish, message):
    found = sample(NET + conv(4) + conv(3))
    if wish.get("target") == "macs=2M":
        assert Trial(found, **wish).plan().keep == {}
        return
    with pytest.raises(PlanError, match=message):
        Trial(found, **wish).plan()


def test_the_names_that_commands_list():
    assert list(SAID) == list(STRATEGIES)
    assert list(COMPARISONS) == list(orders.COMPARISONS)


# Plans, jobs, commands


def test_plans_remember_their_target(tmp_path):
    plan = Trial(sample(NET + conv(16) + conv(3)), target="macs=0.5").plan()
    plan.save(tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text())
    assert list(data)[:2] == ["strategy", "target"]
    assert data["target"] == "macs=0.5"
    assert Plan.load(tmp_path / "plan.json") == plan


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with x.cfg and x.weights in it."""
    monkeypatch.chdir(tmp_path)
    text = NET + conv(16) + conv(16) + shortcut(-2) + conv(24) + conv(4, size=1)
    Path("x.cfg").write_text(text)
    network = Network(Cfg.load("x.cfg"))
    randomize(network)
    save_weights(network, "x.weights", Header(0, 1, 0))
    return tmp_path


def test_a_job_for_a_target(here):
    job = Job("x.cfg", "x.weights", Wish("shortcut", target="bytes=0.5"), verify=("torch",), runs=0)
    result = prune(job)
    report = result.report
    assert report.after.weights_bytes <= 0.5 * report.before.weights_bytes
    result.write(here, "y")
    assert (here / "y.weights").stat().st_size == report.after.weights_bytes
    data = json.loads((here / "y.json").read_text())
    assert (data["percent"], data["target"]) == (None, "bytes=0.5")
    assert "shortcut, bytes=0.5" in report.tables()
    result.plan.save("plan.json")
    again = prune(Job("x.cfg", "x.weights", Wish("normal", 0.1), plan="plan.json", runs=0))
    assert again.plan == result.plan
    assert again.report.asked == "bytes=0.5"


def test_the_header_counts_among_the_bytes(here):
    """One byte less than what a cut takes, whose header is shorter than ours."""
    least = prune(Job("x.cfg", "x.weights", Wish("shortcut", 0.5), verify=(), runs=0))
    size = least.report.after.weights_bytes
    for target, same in ((f"bytes={size}", True), (f"bytes={size - 1}", False)):
        job = Job("x.cfg", "x.weights", Wish("shortcut", target=target), verify=(), runs=0)
        found = prune(job).report.after.weights_bytes
        assert (found == size) is same
        assert found <= size


def run(command, *options):
    given_ = ("--cfg", "x.cfg", "--weights", "x.weights", "--out", "out", "--verify", "torch")
    return command.run("prune", *given_, "--runs", 0, "--strategy", "shortcut", *options)


@pytest.mark.parametrize(
    ("options", "stem"),
    [
        (("--target", "macs=0.5"), "x-shortcut-macs0.5"),
        (("--target", "macs=0.5, bytes=2M"), "x-shortcut-macs0.5-bytes2M"),
        (("--target", "macs=0.5", "--target", "params=.4"), "x-shortcut-macs0.5-params.4"),
        (("--strategy", "slim"), "x-slim-0.5"),
        (("--importance", "l1", "--compare", "layer"), "x-shortcut-l1-layer-0.5"),
        (("--target", "macs=0.6", "--figures", "out"), "x-shortcut-macs0.6"),
    ],
)
def test_files_are_named_for_the_target(here, command, options, stem):
    ended = run(command, *options)
    assert ended.code == 0, ended
    made = {f"{stem}.{kind}" for kind in ("cfg", "weights", "json")}
    drawn = {f"{stem}-{picture}.png" for picture in ("channels", "scores")}
    assert {path.name for path in Path("out").iterdir()} - drawn == made


@pytest.mark.parametrize("importance", DATA_FREE)
@pytest.mark.parametrize("compare", COMPARISONS)
def test_every_way_to_choose(here, command, importance, compare):
    options = ("--importance", importance, "--compare", compare, "--per-mac", "--round", "pow2")
    ended = run(
        command, *options, "--target", "params=0.5", "--layer-keep", 0.1, "--json", "r.json"
    )
    assert ended.code == 0, ended
    report = json.loads(Path("r.json").read_text())
    assert report["after"]["parameters"] <= report["before"]["parameters"] / 2
    for layer in report["layers"]:
        assert layer["after"] in (8, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "macs=1.5"), "target macs=1.5: expected a share of the original below 1"),
        (("--target", "fast"), "target 'fast': expected NAME=VALUE as in macs=0.5"),
        (("--target", "macs=0.5", "--percent", "0.5"), "not allowed with argument"),
        (("--target", "macs=0.001"), "target macs=0.001 is out of reach: shortcut leaves at least"),
        (("--round", "pow3"), "--round pow3: expected at least 1, or pow2"),
        (("--round", "-8"), "--round"),
        (("--layer-keep", "2"), "layer-keep 2: expected a share from 0 to 1"),
        (("--importance", "magic"), "--importance: invalid choice: 'magic'"),
        (("--compare", "magic"), "--compare: invalid choice: 'magic'"),
        (("--seed", "-1", "--importance", "random"), "seed -1: expected at least 0"),
        (("--strategy", "bayesian", "--per-mac"), "--per-mac: the strategy bayesian has no use"),
        (("--strategy", "bayesian", "--target", "macs=1k"), "--target macs=1k: the strategy bay"),
    ],
)
def test_bad_options(here, command, options, message):
    ended = run(command, *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("out").exists()
