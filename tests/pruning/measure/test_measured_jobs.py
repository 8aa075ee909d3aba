"""Jobs and commands for milliseconds and for what a cut loses of the mAP."""

import json
from pathlib import Path

import pytest
from jobs import make_job, prune
from paths import DIGITS
from pruned_files import FILES
from specs import spec
from timed import TIMED, WHOLE, ready, timed

from pruning import session
from pruning.measure.latency import machine
from pruning.measure.latency_table import read_tables
from pruning.proof.engines.base import Profile
from pruning.run.figures import section_latencies
from yolo.errors import PlanError
from yolo.models.weights import Header, save_weights

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with x.cfg and x.weights in it, and made-up times."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "profiler_of", lambda name: timed)
    monkeypatch.setattr(session, "timed_engine", lambda network, asked: asked or "opencv")
    Path("x.cfg").write_text(TIMED)
    save_weights(ready(TIMED), "x.weights", Header(0, 1, 0))
    return tmp_path


def test_a_job_for_milliseconds(here):
    asked = spec("shortcut", target=f"ms={0.5 * WHOLE:.4f}")
    job = make_job("x.cfg", "x.weights", asked, verify=("torch",), runs=0, latencies="t.json")
    result = prune(job)
    assert timed(result.cut.network).ms <= 0.5 * WHOLE * 1.001
    report = json.loads(result.report.to_json(FILES))
    # what decided is what is reported
    assert report["after"]["ms"]["opencv"] == timed(result.cut.network).ms
    times = report["sections_ms"]
    assert (times["engine"], times["threads"]) == ("Fake 1.0", 1)
    assert [s["index"] for s in times["sections"]] == list(range(len(result.cut.network.layers)))
    assert sum(s["after"] for s in times["sections"]) < sum(s["before"] for s in times["sections"])
    assert [path.name for path in here.glob("t.json*")] == ["t.json"]
    assert section_latencies(result.report).axes[0].get_ylabel() == "ms"
    assert set(read_tables(here / "t.json").times) == {machine(timed(result.cut.network))}


def test_the_cache_is_the_default(here, cache):
    prune(make_job("x.cfg", "x.weights", spec("shortcut", target="ms=999"), verify=(), runs=0))
    assert list(read_tables(cache).times) == [machine(Profile("Fake 1.0", 1, 1, {}))]


def test_without_the_target_nothing_is_kept(here, cache):
    result = prune(make_job("x.cfg", "x.weights", spec("shortcut", 0.5), verify=(), runs=0))
    assert result.report.times is None
    assert "sections_ms" not in json.loads(result.report.to_json(FILES))
    with pytest.raises(ValueError, match="no latencies"):
        section_latencies(result.report)
    assert not cache.exists()


def test_blocks_until_the_milliseconds_are_met(here):
    """The only block takes what sections 1 to 3 do."""
    asked = spec("layer", target=f"ms={0.9 * WHOLE:.4f}")
    result = prune(make_job("x.cfg", "x.weights", asked, verify=("torch",), runs=0))
    assert result.cut.plan.blocks == (3,)
    assert timed(result.cut.network).ms <= 0.9 * WHOLE
    gone = [s.index for s in result.report.times.sections if s.after is None]
    assert {1, 2} <= set(gone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "map-drop=0.02"), "target map-drop=0.02: needs labeled images (--data)"),
        (("--target", "ms=0.001"), "target ms=0.001 is out of reach: shortcut leaves at least ms="),
        (("--target", "ms=1", "--latencies", "x.cfg"), "x.cfg: is read here, so it isn't written"),
        (("--target", "ms=1", "--latencies", "garbage"), "garbage: is not a table of latencies"),
    ],
)
def test_what_cant_be_done_is_reported_in_a_line(here, command, options, message):
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
        asked = spec("shortcut", target=target)
        return prune(make_job(*map(str, DIGITS), asked, verify=(), runs=0, latencies=table))

    assert made("ms=100k").cut.plan.keep == {}
    known = read_tables(tmp_path / "t.json").times
    ((name, kinds),) = known.items()
    assert "OpenCV" in name
    assert sum(map(len, kinds.values())) >= 10
    with pytest.raises(PlanError, match="is out of reach: shortcut leaves at least ms="):
        made("ms=0.0001")


def test_a_real_network_loses_no_more_than_asked_for(tmp_path):
    pytest.importorskip("sklearn")
    from yolo.datasets.formats.layout import Destination, write
    from yolo.datasets.formats.sample import sample as scenes

    write(scenes({"train": 16, "valid": 24}), Destination(tmp_path / "digits", tmp_path))
    steps = []
    result = prune(
        make_job(
            *map(str, DIGITS),
            spec("shortcut", target="map-drop=0.05"),
            verify=(),
            runs=0,
            data=str(tmp_path / "digits.data"),
            workers=0,
            progress=steps.append,
        )
    )
    report = result.report
    assert report.before.score.value - report.after.score.value <= 0.05
    assert report.after.cost.macs < 0.9 * report.before.cost.macs
    assert "evaluating: 24 of 24 images" in steps
    assert report.asked == "map-drop=0.05"
