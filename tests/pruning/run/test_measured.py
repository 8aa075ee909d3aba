"""The milliseconds of a report: every engine, before and after, and warnings."""

import json
from pathlib import Path

import pytest
from cfgs import conv, net
from jobs import make_job, prune
from pruned_files import FILES
from specs import spec
from timed import ready

from pruning import session
from pruning.proof.engines.base import EngineError, Profile
from pruning.registry import AUTO, TIMED
from pruning.run import measured
from yolo.models.weights import Header, save_weights

WIDE = net(16, 16) + conv(32) + conv(32) + conv(4, size=1)


class Engines:
    """Made-up engines: onnxruntime is slow for widths that aren't multiples of 8."""

    def __init__(self, missing=()):
        self.missing, self.asked = missing, []

    def profiler_of(self, name):
        def profile(network, runs, seconds):
            if name in self.missing:
                raise EngineError(f"{name} is not installed")
            self.asked.append(name)
            sections = {i: layer.macs() / 1e5 for i, layer in enumerate(network.layers)}
            odd = any(layer.out_shape.channels % 8 for layer in network.layers[:-1])
            slow = 9.0 if odd and name == "onnxruntime" else 1.0
            return Profile(f"{name} 1.0", 1, slow * sum(sections.values()), sections)

        return profile


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Made-up engines, and x.cfg and x.weights in the current folder."""
    made = Engines()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measured, "profiler_of", made.profiler_of)
    monkeypatch.setattr(session, "profiler_of", made.profiler_of)
    monkeypatch.setattr(session, "timed_engine", lambda network, asked: asked or "opencv")
    steps = {"opencv": 1, "onnxruntime": 8, "torch": 1}
    monkeypatch.setattr(session, "width_step", lambda name, path, progress: steps.get(name))
    Path("x.cfg").write_text(WIDE)
    save_weights(ready(WIDE), "x.weights", Header(0, 1, 0))
    return made


def report_of(asked, **inputs):
    return prune(make_job("x.cfg", "x.weights", asked, verify=(), runs=1, **inputs)).report


def test_every_engine_is_told_and_a_slower_model_is_warned_of_first(engines):
    report = report_of(spec("shortcut", target="macs=0.8", round_to=1))
    for side in (report.before, report.after):
        assert side.ms.keys() == TIMED.keys()
        assert None not in side.ms.values()
    first, *rest = report.tables().splitlines()
    assert first.startswith("warning: slower than the original in onnxruntime, ")
    assert not any("warning" in line for line in rest)
    assert [f"ms in {name}" in report.tables() for name in TIMED] == [True] * len(TIMED)
    data = json.loads(report.to_json(FILES))
    assert data["warnings"] == [first.removeprefix("warning: ")]
    assert list(data)[:3] == ["kind", "schema", "warnings"]
    assert engines.asked.count("onnxruntime") > engines.asked.count("opencv") == 2


def test_widths_that_suit_all_engines_are_the_default_search(engines):
    report = report_of(spec("shortcut", target="macs=0.8", round_to=AUTO))
    assert report.warnings == []
    assert all(layer.after % 8 == 0 for layer in report.layers)
    assert "Widths are in steps of 8: of 1 for opencv, 8 for onnxruntime" in report.tables()
    data = json.loads(report.to_json(FILES))
    assert data["width_steps"] == {"opencv": 1, "onnxruntime": 8}
    assert "warnings" not in data


def test_an_engine_that_is_asked_for_has_its_own_widths(engines):
    report = report_of(spec("shortcut", target="macs=0.8", round_to=AUTO), ms_engine="opencv")
    assert report.width_steps == {"opencv": 1}
    assert any(layer.after % 8 for layer in report.layers)
    assert report.after.profile.engine == "opencv 1.0"


def test_a_target_is_measured_in_the_engine_that_is_asked_for(engines):
    whole = 1e-5 * ready(WIDE).macs()
    target = f"ms={0.6 * whole:.4f}"
    asked = spec("shortcut", target=target, round_to=AUTO)
    report = report_of(asked, ms_engine="onnxruntime", latencies="t.json")
    assert report.after.ms["onnxruntime"] <= 0.6 * whole
    assert report.times.engine == "onnxruntime 1.0"
    assert "onnxruntime 1.0" in Path("t.json").read_text()


def test_engines_that_are_missing_are_left_out(engines):
    engines.missing = ("opencv", "onnxruntime")
    report = report_of(spec("shortcut", 0.5))
    assert report.after.ms["opencv"] is report.after.ms["onnxruntime"] is None
    assert report.after.ms["torch"] > 0
    assert report.after.profile.engine == "torch 1.0"


def test_the_same_network_is_not_called_slower(engines):
    report = report_of(spec("shortcut", 0.0))
    assert report.before.ms == report.after.ms
    assert report.warnings == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ms-engine", "tensorrt"), "--ms-engine: invalid choice: 'tensorrt'"),
        (("--round", "auto", "--percent", "0.5"), "round auto chooses widths for a target"),
        (("--round", "some"), "--round some: expected at least 1, or pow2 or auto"),
        (("--round", "auto", "--strategy", "layer", "--target", "macs=0.5"), "--round has no"),
    ],
)
def test_what_cant_be_meant_is_said_in_a_line(engines, command, options, message):
    ended = command.run("prune", "--cfg", "x.cfg", "--weights", "x.weights", *options)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert message in ended.err
    assert sorted(path.name for path in Path().iterdir()) == ["x.cfg", "x.weights"]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--target", "macs=0.7"), {8, 16, 24, 32}),
        (("--target", "macs=0.7", "--round", "16"), {16, 32}),
    ],
)
def test_a_budget_takes_widths_that_suit(engines, command, options, wanted):
    given = ("--cfg", "x.cfg", "--weights", "x.weights", "--strategy", "shortcut", *options)
    ended = command.run("prune", *given, "--verify", "none", "--json", "r.json", "--out", "out")
    assert ended.code == 0, ended
    layers = json.loads(Path("r.json").read_text())["layers"]
    assert layers
    assert {layer["after"] for layer in layers} <= wanted
