"""Targets that are measured: milliseconds, and what a cut loses of the mAP."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from cfgs import NET, conv, maxpool, shortcut
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from pruning.targets import parse_targets
from random_cfg import sample

from pruning import session as job
from pruning.cut.folding import Folding
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shorter
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure import metric as judge
from pruning.measure.costs import Costs
from pruning.measure.latency import (
    machine,
    measure_for,
    opencv_profile,
    section_times,
    torch_profile,
)
from pruning.measure.latency_table import Form, LatencyTable, cache_file, read_tables
from pruning.measure.measures import Lost, Measures, Stopwatch
from pruning.measure.metric import Accuracy
from pruning.proof.engines import EngineError, Profile
from pruning.run.figures import section_latencies
from pruning.selection import Wish, select
from pruning.selection.budget import NEAR, ROUNDS, turns_to_meet
from pruning.selection.importance import Model
from pruning.selection.schedule import Path as Way
from pruning.session import Job, prune
from yolo.errors import DarknetError, PlanError
from yolo.models.weights import Header, save_weights
from yolo.network import Network

DIGITS = ROOT / "cfg" / "digits.cfg", ROOT / "weights" / "digits.weights"
FILES = {"cfg": Path("x.cfg"), "weights": Path("x.weights")}
RESIDUAL = (
    NET.replace("=8\n", "=16\n")
    + conv(16)
    + conv(24)
    + conv(16)
    + shortcut(-3)
    + maxpool()
    + conv(32)
    + conv(4, size=1)
)
CONV = Form("conv", True)


def ready(text):
    """A network of a cfg text, with trained-looking tensors."""
    found = sample(text)
    state = {i: {n: t.float() for n, t in tensors.items()} for i, tensors in found.state.items()}
    return Network.with_state(found.network.cfg, state)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test touches the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "darknet-pruning" / "latencies.json"


# Targets as they are written


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("ms=12", [("ms", 12)]),
        ("ms=.5", [("ms", 0.5)]),
        ("ms=1.5k", [("ms", 1500)]),
        ("map-drop=0", [("map-drop", 0)]),
        ("ms=12,map-drop=0.02", [("ms", 12), ("map-drop", 0.02)]),
    ],
)
def test_targets_that_are_no_shares(text, limits):
    found = parse_targets(text)
    assert [(t.name, t.limit) for t in found] == limits
    assert not any(t.share for t in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ms=fast", "target ms=fast: expected a number"),
        ("ms=-1", "target ms=-1: expected a number"),
        ("ms=nan", "target ms=nan: expected a number"),
        ("ms=1e999", "target ms=1e999: expected a number"),
        ("ms=5ms", "target ms=5ms: expected a number"),
        ("map-drop=1", "target map-drop=1: expected a number below 1"),
        ("map-drop=2k", "target map-drop=2k: expected a number below 1"),
        ("map-drop=1%", "target map-drop=1%: expected a number below 1"),
        ("mapdrop=0.1", "'mapdrop' is none of channels, params, macs, bytes, ms, map-drop"),
    ],
)
def test_targets_that_cant_be_meant(text, message):
    with pytest.raises(PlanError) as error:
        parse_targets(text)
    assert message in str(error.value)


# Searching with estimates


class Guess:
    """An estimate that is off by some factor until it is corrected; `true` counts channels."""

    def __init__(self, true, wrong=1.0, noise=lambda call: 1.0):
        self.true, self.ratio, self.wrong, self.noise = true, 1.0, wrong, noise
        self.settled = []

    def told(self, fold):
        """What is wrong is more wrong the more is cut."""
        return self.true(fold) ** self.wrong

    def __call__(self, plan, fold):
        return self.ratio * self.told(fold)

    def settle(self, plan, fold):
        found = self.true(fold) * self.noise(len(self.settled))
        self.ratio = found / self.told(fold)
        self.settled.append(found)
        return found


class Search:
    """A path of 199 turns, and how many channels of its family a cut keeps."""

    def __init__(self, target, channels=200):
        found = sample(NET + conv(channels, size=1) + conv(3))
        self.graph = ChannelGraph(found.network)
        folding = Folding(self.graph, found.state, "none")
        self.wish = Wish("normal", target=target)
        self.path = Way(Model(self.graph, found.state), self.wish, folding)
        self.costs = Costs(self.graph).measures()

    def left(self, fold):
        return float(fold.kept[self.graph.outputs[0]].sum())

    def turns(self, **more):
        return turns_to_meet(self.path, self.wish.target, self.costs | more)


@given(st.integers(1, 199), st.floats(0.7, 1.4))
def test_the_search_ends_near_the_target_or_tells_why_not(limit, wrong):
    search = Search(f"ms={limit}")
    guess = Guess(search.left, wrong)
    turns = search.turns(ms=guess)
    assert len(guess.settled) <= ROUNDS + 1
    left = 200 - turns
    assert left in guess.settled
    # one channel may be more than the tolerance
    assert NEAR * limit - 1 <= left <= limit / NEAR


@given(st.integers(20, 199), st.lists(st.floats(0.98, 1.02), min_size=6, max_size=6))
def test_noise_in_what_is_measured_is_borne(limit, noise):
    search = Search(f"ms={limit}")
    guess = Guess(search.left, 1.1, lambda call: noise[call])
    left = 200 - search.turns(ms=guess)
    assert 0.85 * limit <= left <= 1.15 * limit


def test_what_fits_already_is_measured_once():
    for limit in (200, 201, 1000):
        search = Search(f"ms={limit}")
        guess = Guess(search.left)
        assert search.turns(ms=guess) == 0
        assert guess.settled == [200]


def test_what_is_out_of_reach_has_been_measured():
    """The estimate says that it can be reached."""
    search = Search("ms=50")
    guess = Guess(lambda fold: 100 + search.left(fold), 0.5)
    with pytest.raises(PlanError) as error:
        search.turns(ms=guess)
    assert str(error.value) == (
        "target ms=50 is out of reach: normal leaves at least ms=101, "
        "keeping at least 1 of every layer"
    )
    assert guess.settled[-1] == 101


def test_an_estimate_that_is_too_high_is_no_reason_to_give_up():
    search = Search("ms=30")
    guess = Guess(search.left)
    guess.ratio = 1000.0
    left = 200 - search.turns(ms=guess)
    assert 27 <= left <= 30


def test_the_nearest_is_within_reach():
    search = Search("ms=100")
    guess = Guess(lambda fold: 101 + search.left(fold))
    assert search.turns(ms=guess) == len(search.path)  # 102: two in a hundred above


def test_other_targets_set_where_the_search_begins():
    """99 channels of 202 are left for half of them, which takes less than 150 ms."""
    search = Search("channels=0.5,ms=150")
    guess = Guess(search.left)
    turns = search.turns(ms=guess)
    assert turns == Search("channels=0.5").turns()
    assert guess.settled == [200 - turns]


def test_other_targets_that_are_out_of_reach_cost_no_measurement():
    search = Search("channels=2,ms=150")
    guess = Guess(search.left)
    with pytest.raises(PlanError, match="target channels=2 is out of reach"):
        search.turns(ms=guess)
    assert guess.settled == []


def test_a_time_and_a_loss_that_contradict_each_other():
    search = Search("ms=50,map-drop=0.1")

    def lost(plan, fold):
        return (200 - search.left(fold)) / 1000

    with pytest.raises(PlanError) as error:
        search.turns(**{"ms": Guess(search.left), "map-drop": lost})
    message = str(error.value)
    assert (
        "target map-drop=0.1 is out of reach: the least cut for ms=50 has map-drop=0.15" in message
    )
    search = Search("ms=150,map-drop=0.1")
    left = 200 - search.turns(**{"ms": Guess(search.left), "map-drop": lost})
    assert 135 <= left <= 150


# The table


def test_a_table_fits_what_was_measured():
    table = LatencyTable(None, "m")
    # 2 µs a MAC and 10 µs a channel
    for widths in ((8, 8), (16, 32), (64, 16)):
        table.add({(CONV, widths): 0.002 * math.prod(widths) + 0.01 * sum(widths)})
    assert table.predict(CONV, (32, 32)) == pytest.approx(0.002 * 1024 + 0.01 * 64)


def test_one_measurement_is_laid_to_the_macs():
    table = LatencyTable(None, "m")
    table.add({(CONV, (10, 20)): 4.0, (Form("pool", False), (20, 20)): 1.0})
    assert table.predict(CONV, (5, 10)) == pytest.approx(1)
    assert table.predict(Form("pool", False), (5, 5)) == pytest.approx(0.25)
    assert table.predict(Form("other", True), (5, 5)) == 0


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 64), st.integers(1, 64)), st.floats(0, 50), min_size=1
    ),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.booleans(),
)
def test_narrower_is_never_slower(tmp_path_factory, known, widths, weighs):
    table = LatencyTable(tmp_path_factory.mktemp("t") / "t.json", "m")
    form = Form("x", weighs)
    table.add({(form, key): ms for key, ms in known.items()})
    wide = table.predict(form, widths)
    assert 0 <= table.predict(form, (max(widths[0] - 1, 1), max(widths[1] - 1, 1))) <= wide


def test_a_table_is_kept(tmp_path):
    path = tmp_path / "new" / "t.json"
    LatencyTable(path, "one").add({(CONV, (1, 2)): 3.0})
    LatencyTable(path, "two").add({(CONV, (1, 2)): 5.0})
    assert LatencyTable(path, "one").predict(CONV, (1, 2)) == pytest.approx(3)
    assert read_tables(path) == {"one": {"conv": {(1, 2): 3.0}}, "two": {"conv": {(1, 2): 5.0}}}
    assert list(path.parent.iterdir()) == [path]


def test_what_is_measured_again_replaces_the_old(tmp_path):
    table = LatencyTable(tmp_path / "t.json", "m")
    for ms in (3.0, 4.0):
        table.add({(CONV, (1, 2)): ms})
    assert read_tables(tmp_path / "t.json")["m"]["conv"] == {(1, 2): 4.0}
    table.add({(CONV, (1, n)): 1.0 for n in range(100)})
    assert len(read_tables(tmp_path / "t.json")["m"]["conv"]) == 64


GARBAGE = [
    b"",
    b"\0\xff garbage",
    b"[]",
    b"{}",
    b"null",
    b'{"format": "something else", "machines": {}}',
    b'{"format": "latencies of sections, 1", "machines": []}',
    b'{"format": "latencies of sections, 1", "machines": {"m": {"conv": [[1, 2]]}}}',
    b'{"format": "latencies of sections, 1", "machines": {"m": {"conv": [[1, 2, -3]]}}}',
    b'{"format": "latencies of sections, 1", "machines": {"m": {"conv": [[1, 2, NaN]]}}}',
    b'{"format": "latencies of sections, 1", "machines": {"m": {"conv": [[1, 2, "x"]]}}}',
    b"[" * 10_000,
]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_file_that_is_no_table_is_left_alone(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(DarknetError, match="not a table of latencies: delete it"):
        LatencyTable(path, "m")
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", GARBAGE)
def test_a_cache_that_is_no_table_is_made_anew(cache, content):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    assert cache_file() == cache
    LatencyTable(None, "m").add({(CONV, (1, 2)): 3.0})
    assert read_tables(cache) == {"m": {"conv": {(1, 2): 3.0}}}


def test_without_a_cache_it_works_too(cache, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    table = LatencyTable(None, "m")
    table.add({(CONV, (1, 2)): 3.0})
    assert table.predict(CONV, (1, 2)) == pytest.approx(3)
    named = LatencyTable(tmp_path / "file" / "t.json", "m")
    with pytest.raises(DarknetError, match="can't write"):
        named.add({(CONV, (1, 2)): 3.0})


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    LatencyTable(path, "m").add({(CONV, (1, 2)): 3.0})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DarknetError, match="can't write"):
        LatencyTable(path, "m").add({(CONV, (3, 4)): 3.0})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_forms_tell_what_a_time_depends_on():
    text = NET + conv(8) + conv(8) + conv(16) + conv(16, groups=16) + conv(16, groups=4)
    text += conv(16, stride=2) + conv(16, size=1, activation="mish") + "[maxpool]\nsize=2\n"
    forms = [Form.of(layer) for layer in sample(text).network.layers]
    assert forms[0] == forms[1] == forms[2]
    assert len(set(forms)) == 6
    assert [form.weighs for form in forms[2:]] == [True, False, True, True, True, False]


# Milliseconds


def timed(network, runs=0, seconds=0.0):
    """Milliseconds of an engine that takes a µs for a thousand MACs, and as much for a channel.

    It wastes time beside its sections, the more of it the more there is to do.
    """
    sections = {
        i: 1e-3 * (layer.macs() / 1000 + layer.out_shape.channels)
        for i, layer in enumerate(network.layers)
    }
    total = sum(sections.values())
    return Profile("Fake 1.0", 1, 1.3 * total + 0.05, sections)


def cut(graph, fold):
    return Network.with_state(*operate(graph, graph.network.state(), fold))


def finish(shorter, graph, fold):
    return cut(graph, fold)


def whole(network):
    return Shorter.of(network, ())


class Timing:
    """A search for milliseconds in a network whose times are made up."""

    def __init__(self, target, path, text=RESIDUAL, measure=timed):
        self.network, self.measured = ready(text), []
        self.graph = ChannelGraph(self.network)
        self.folding = Folding(self.graph, self.network.state())
        self.wish = Wish("shortcut", target=target)

        def recorded(network, runs, seconds):
            self.measured.append(measure(network))
            return self.measured[-1]

        self.stopwatch = Stopwatch(self.network, path, cut, recorded)

    def plan(self):
        tell = Measures(Header(), stopwatch=self.stopwatch)
        state = self.network.state()
        measures = tell(whole(self.network), self.folding)
        return select(Model(self.graph, state), self.wish, self.folding, measures=measures)

    def built(self, plan):
        return cut(self.graph, self.folding.fold(plan.alive(self.graph), plan.mean))


WHOLE = timed(sample(RESIDUAL).network).ms


@pytest.mark.parametrize("share", [0.9, 0.7, 0.5, 0.3])
def test_a_cut_for_milliseconds(tmp_path, share):
    timing = Timing(f"ms={share * WHOLE:.4f}", tmp_path / "t.json")
    ms = timed(timing.built(timing.plan())).ms
    assert 0.88 * share * WHOLE <= ms <= share * WHOLE * 1.0001
    assert len(timing.measured) <= ROUNDS + 1


def test_the_next_search_knows_more(tmp_path):
    """What is known of other cuts tells where to begin."""
    target = f"ms={0.5 * WHOLE:.4f}"
    first = Timing(target, tmp_path / "t.json")
    first.plan()
    again = Timing(target, tmp_path / "t.json")
    again.plan()
    assert len(again.measured) <= len(first.measured)
    assert len(again.measured) == 2  # the whole network, and the cut


def test_a_table_of_nonsense_is_corrected(tmp_path):
    """What another load of the machine left there."""
    form = Form.of(sample(RESIDUAL).network.layers[1])
    table = LatencyTable(tmp_path / "t.json", machine(timed(sample(RESIDUAL).network)))
    table.add({(form, (2, 2)): 500.0})
    timing = Timing(f"ms={0.5 * WHOLE:.4f}", tmp_path / "t.json")
    ms = timed(timing.built(timing.plan())).ms
    assert 0.4 * WHOLE <= ms <= 0.55 * WHOLE


def test_milliseconds_that_no_cut_takes(tmp_path):
    timing = Timing("ms=0.01", tmp_path / "t.json")
    with pytest.raises(
        PlanError, match=r"target ms=0.01 is out of reach: shortcut leaves at least"
    ):
        timing.plan()
    assert f"{timing.measured[-1].ms:.4g}" in _refused(timing)


def _refused(timing):
    with pytest.raises(PlanError) as error:
        timing.plan()
    return str(error.value)


def test_nothing_is_measured_twice(tmp_path):
    timing = Timing("ms=1", tmp_path / "t.json")
    timing.stopwatch.measured(timing.network)
    assert len(timing.measured) == 1


def test_estimates_are_right_where_something_was_measured(tmp_path):
    timing = Timing("ms=1", tmp_path / "t.json")
    ms = Measures(Header(), stopwatch=timing.stopwatch)
    ms = ms(whole(timing.network), timing.folding)["ms"]
    fold = timing.folding.fold(np.ones(timing.graph.size, bool))
    assert ms(Plan("x", 0, {}), fold) == pytest.approx(WHOLE)


# Engines


@pytest.mark.parametrize("profile", [opencv_profile, torch_profile])
def test_every_section_has_its_time(profile):
    if profile is opencv_profile:
        pytest.importorskip("cv2", reason="OpenCV is not installed")
    text = RESIDUAL.replace("filters=4", "filters=6")
    text += "[yolo]\nmask=0\nanchors=4,4\nnum=1\nclasses=1\n"
    network = ready(text)
    told = profile(network, 2, 0)
    assert list(told.sections) == list(range(len(network.layers)))
    assert all(ms >= 0 for ms in told.sections.values())
    assert min(told.sections[i] for i in (0, 1, 2, 5)) > 0
    assert told.ms >= sum(told.sections.values()) * (1 - 1e-9)
    assert told.engine.split()[0] in ("OpenCV", "torch")


def test_torch_measures_what_opencv_cant_run():
    network = ready(NET + conv(8, activation="relu6") + conv(3))
    with pytest.raises(EngineError):
        opencv_profile(network, 1, 0)
    assert measure_for(network) is torch_profile


def test_opencv_measures_the_rest():
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    assert measure_for(ready(RESIDUAL)) is opencv_profile


def test_machines_are_told_apart():
    one, other = Profile("OpenCV 4.9", 1, 1, {}), Profile("OpenCV 4.9", 2, 1, {})
    assert machine(one) != machine(other)
    assert machine(one).endswith("1 thread, OpenCV 4.9")


def test_sections_are_compared_as_they_were_numbered():
    network = sample(NET + conv(4) * 3).network
    before = Profile("e", 1, 3.0, {0: 1.0, 1: 2.0, 2: 3.0})
    after = Profile("e", 1, 3.0, {0: 0.5, 1: 0.25})
    times = section_times(network, before, after, {0: 0, 1: 2})
    rows = [(s.index, s.section, s.before, s.after) for s in times.sections]
    assert rows == [
        (0, "convolutional", 1.0, 0.5),
        (1, "convolutional", 2.0, None),
        (2, "convolutional", 3.0, 0.25),
    ]
    assert section_times(network, before, Profile("f", 1, 1.0, {}), {}) is None
    assert section_times(network, None, after, {}) is None


# What is lost


class Scored:
    """Evaluations of networks whose score is their share of some channels."""

    def __init__(self):
        self.networks = []

    def __call__(self, network, images, *, points, progress):
        progress(1)
        self.networks.append(network)
        channels = network.layers[1].out_shape.channels
        return type("Evaluation", (), {"score": channels / 24})()


@pytest.fixture
def scored(monkeypatch):
    found = Scored()
    monkeypatch.setattr(judge, "evaluate", found)
    return found


class Images:
    items = (None,)


def test_no_network_is_evaluated_twice(scored):
    said = []
    accuracy = Accuracy(Images(), progress=said.append)
    one, same = ready(RESIDUAL), ready(RESIDUAL)
    assert accuracy(one).score == accuracy(same).score == 1
    assert len(scored.networks) == 1
    assert said == ["evaluating: 1 of 1 images"]
    one.layers[0].stored()["weights"].data += 1
    accuracy(one)
    assert len(scored.networks) == 2


@pytest.mark.parametrize("drop", [0, 0.05, 0.25, 0.5, 0.99])
def test_the_largest_cut_that_loses_no_more(scored, drop):
    network = ready(RESIDUAL)
    graph = ChannelGraph(network)
    folding = Folding(graph, network.state(), "none")
    lost = Lost(network, finish, Accuracy(Images()))
    tell = Measures(Header(), lost=lost)
    wish = Wish("normal", target=f"map-drop={drop}", only=(1,))
    model = Model(graph, network.state())
    plan = select(model, wish, folding, measures=tell(whole(network), folding))
    left = len(plan.keep.get(1, range(24)))
    assert left == max(math.ceil(24 * (1 - drop) - 1e-9), 1)
    assert len(scored.networks) <= 3 + math.ceil(math.log2(24))


def test_what_is_written_is_what_is_scored(scored):
    """Not the cut, but what `finish` makes of it."""
    network = ready(RESIDUAL)
    graph = ChannelGraph(network)
    folding = Folding(graph, network.state(), "none")
    fold = folding.fold(np.arange(graph.size) != graph.outputs[1][0])
    finished = cut(graph, folding.fold(np.ones(graph.size, bool)))
    accuracy = Accuracy(Images())
    assert Lost(network, finish, accuracy)(whole(network), graph, fold) == pytest.approx(1 / 24)
    done = Lost(network, lambda shorter, graph, fold: finished, accuracy)
    assert done(whole(network), graph, fold) == 0


# The whole way


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with x.cfg and x.weights in it, and made-up times."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "measure_for", lambda network: timed)
    Path("x.cfg").write_text(RESIDUAL)
    save_weights(ready(RESIDUAL), "x.weights", Header(0, 1, 0))
    return tmp_path


def test_a_job_for_milliseconds(here):
    wish = Wish("shortcut", target=f"ms={0.5 * WHOLE:.4f}")
    result = prune(Job("x.cfg", "x.weights", wish, verify=("torch",), runs=0, latencies="t.json"))
    assert timed(result.smaller).ms <= 0.5 * WHOLE * 1.001
    report = json.loads(result.report.to_json(FILES))
    # what decided is what is told
    assert report["after"]["latency_ms"]["opencv"] == timed(result.smaller).ms
    times = report["sections_ms"]
    assert (times["engine"], times["threads"]) == ("Fake 1.0", 1)
    assert [s["index"] for s in times["sections"]] == list(range(len(result.smaller.layers)))
    assert sum(s["after"] for s in times["sections"]) < sum(s["before"] for s in times["sections"])
    assert [path.name for path in here.glob("t.json*")] == ["t.json"]
    assert section_latencies(result.report).axes[0].get_ylabel() == "ms"
    assert set(read_tables(here / "t.json")) == {machine(timed(result.smaller))}


def test_the_cache_is_the_default(here, cache):
    prune(Job("x.cfg", "x.weights", Wish("shortcut", target="ms=999"), verify=(), runs=0))
    assert list(read_tables(cache)) == [machine(Profile("Fake 1.0", 1, 1, {}))]


def test_without_the_target_nothing_is_kept(here, cache):
    result = prune(Job("x.cfg", "x.weights", Wish("shortcut", 0.5), verify=(), runs=0))
    assert result.report.times is None
    assert "sections_ms" not in json.loads(result.report.to_json(FILES))
    with pytest.raises(ValueError, match="no latencies"):
        section_latencies(result.report)
    assert not cache.exists()


def test_blocks_until_the_milliseconds_are_met(here):
    """The only block takes what sections 1 to 3 do."""
    wish = Wish("layer", target=f"ms={0.9 * WHOLE:.4f}")
    result = prune(Job("x.cfg", "x.weights", wish, verify=("torch",), runs=0))
    assert result.plan.blocks == (3,)
    assert timed(result.smaller).ms <= 0.9 * WHOLE
    gone = [s.index for s in result.report.times.sections if s.after is None]
    assert {1, 2} <= set(gone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "map-drop=0.02"), "target map-drop=0.02: needs images that tell the accu"),
        (("--target", "ms=0.001"), "target ms=0.001 is out of reach: shortcut leaves at least ms="),
        (("--target", "ms=1", "--latencies", "x.cfg"), "x.cfg: is read here, so it isn't written"),
        (("--target", "ms=1", "--latencies", "garbage"), "garbage: not a table of latencies"),
    ],
)
def test_what_cant_be_done_is_said_in_a_line(here, command, options, message):
    Path("garbage").write_text("something else")
    model = ("--cfg", "x.cfg", "--weights", "x.weights", "--out", "out", "--strategy", "shortcut")
    ended = command.run("prune", *model, "--verify", "none", "--runs", 0, *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("out").exists()
    assert Path("garbage").read_text() == "something else"


def test_pictures_of_latencies(here, command):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    model = ("--cfg", "x.cfg", "--weights", "x.weights", "--out", "out", "--figures", "figures")
    target = ("--strategy", "shortcut", "--target", f"ms={0.5 * WHOLE:.4f}", "--name", "y")
    options = ("--verify", "none", "--runs", 1, "--latencies", "t.json")
    ended = command.run("prune", *model, *target, *options)
    assert ended.code == 0, ended
    made = {path.name for path in Path("figures").iterdir()}
    assert made == {"y-channels.png", "y-latency.png", "y-scores.png"}


def test_a_real_network_in_a_real_engine(tmp_path):
    """Nothing is said of how fast it is: a limit that is met, and one that nothing meets."""
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    table = str(tmp_path / "t.json")

    def made(target):
        wish = Wish("shortcut", target=target)
        return prune(Job(*map(str, DIGITS), wish, verify=(), runs=0, latencies=table))

    assert made("ms=100k").plan.keep == {}
    known = read_tables(tmp_path / "t.json")
    ((name, forms),) = known.items()
    assert "OpenCV" in name
    assert sum(map(len, forms.values())) >= 10
    with pytest.raises(PlanError, match="is out of reach: shortcut leaves at least ms="):
        made("ms=0.0001")


def test_a_real_network_loses_no_more_than_asked_for(tmp_path):
    pytest.importorskip("sklearn")
    from yolo.datasets.formats.layout import Place, write
    from yolo.datasets.formats.sample import sample as scenes

    write(scenes({"train": 16, "valid": 24}), Place(tmp_path / "digits", tmp_path))
    steps = []
    result = prune(
        Job(
            *map(str, DIGITS),
            Wish("shortcut", target="map-drop=0.05"),
            verify=(),
            runs=0,
            data=str(tmp_path / "digits.data"),
            workers=0,
            progress=steps.append,
        )
    )
    report = result.report
    assert report.before.accuracy.map - report.after.accuracy.map <= 0.05
    assert report.after.macs < 0.9 * report.before.macs
    assert "evaluating: 24 of 24 images" in steps
    assert report.asked == "map-drop=0.05"
