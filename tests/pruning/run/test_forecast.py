"""Forecasts of cuts: that the cuts which are made then are the ones that were promised."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from command_line import CommandLine
from good_model import GOOD, check_refused, content, here
from paths import DIGITS, ROOT
from specs import spec

from pruning.proof.engines.base import Profile
from pruning.run import forecast as forecasting
from pruning.run.forecast import CUTS, FORECASTED, KIND, Forecast, forecast
from pruning.run.verdict import LIMIT
from pruning.session import Inputs, Session
from pruning.spec import Targets
from yolo.errors import PlanError
from yolo.network import Network

__all__ = ["here"]  # a fixture
CFG, WEIGHTS = map(str, DIGITS)
MODEL = "--cfg", "x.cfg", "--weights", "x.weights"


def digits(strategy: str = "shortcut", target: str | None = None, runs: int = 0) -> Forecast:
    return forecast(CFG, WEIGHTS, strategy, Targets.parse(target) if target else None, runs)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session.open(Inputs(CFG, WEIGHTS))


def test_ten_cuts_in_equal_steps() -> None:
    found = digits()
    assert len(found.cuts) == CUTS
    assert found.original.cost == Session.open(Inputs(CFG, WEIGHTS)).cost
    assert found.cuts[-1].cost == found.minima["shortcut"]
    most, least = found.original.cost.macs, found.cuts[-1].cost.macs
    for number, cut in enumerate(found.cuts, 1):
        limit = most - (most - least) * number / CUTS
        assert 0.9 * limit < cut.cost.macs <= limit or number == CUTS
    assert found.original.energy == 0
    energies = [cut.energy for cut in found.cuts]
    assert energies == sorted(energies, key=lambda energy: energy or 0)


@pytest.mark.parametrize("strategy", FORECASTED)
def test_a_cut_is_what_was_promised(session: Session, strategy: str) -> None:
    if strategy == "tiny":
        pytest.skip("the sample model has shortcuts, which tiny refuses")
    for cut in digits(strategy).cuts[2:6]:
        made = session.cut(spec(strategy, target=f"macs={cut.cost.macs}"))
        assert made.network.macs() == cut.cost.macs
        assert made.network.count_parameters() == cut.cost.parameters


@pytest.mark.parametrize("strategy", ["normal", "shortcut", "slim"])
def test_a_minimum_can_be_reached_and_no_less(session: Session, strategy: str) -> None:
    least = digits(strategy).minima[strategy].macs
    assert session.cut(spec(strategy, target=f"macs={least}")).network.macs() == least
    with pytest.raises(PlanError, match=f"leaves at least macs={least}"):
        session.cut(spec(strategy, target=f"macs={least - 1}"))


def test_a_strategy_that_is_not_for_this_network() -> None:
    assert "tiny" not in digits().minima
    assert "tiny" in forecast(str(ROOT / "cfg/yolov2-tiny.cfg"), "random", "tiny", runs=0).minima
    with pytest.raises(PlanError, match="tiny is for networks without shortcuts"):
        digits("tiny")
    with pytest.raises(PlanError, match="strategy layer: expected one of normal"):
        digits("layer")


def test_answers(session: Session) -> None:
    met = digits(target="macs=0.4,params=70k").answer
    assert met
    assert met.reached
    cut = session.cut(spec("shortcut", target="macs=0.4,params=70k"))
    assert met.reached.cost.macs == cut.network.macs()
    assert met.target == "macs=0.4,parameters=70k"
    missed = digits("normal", target="macs=0.1").answer
    assert missed
    assert missed.reached is None
    assert missed.why.startswith("target macs=0.1 is out of reach: normal leaves at least macs=0.2")


@pytest.mark.parametrize(
    ("target", "message"),
    [("map-drop=0.01", "map-drop=0.01: needs images"), ("ms=3", "ms=3: needs latencies")],
)
def test_targets_that_cannot_be_answered(target: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        digits(target=target)


def test_random_weights_have_no_energy() -> None:
    found = forecast(CFG, "random", "shortcut", runs=0)
    assert {cut.energy for cut in (found.original, *found.cuts)} == {None}
    assert "Energy" not in found.tables()


def proportional(network: Network, runs: int, seconds: float) -> Profile:
    """A machine that takes 1 ms for every million MACs."""
    sections = {i: 1e-6 * layer.macs() for i, layer in enumerate(network.layers)}
    return Profile("abacus", 1, math.fsum(sections.values()), sections)


def test_milliseconds_follow_what_was_measured(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasting, "timed_engine", lambda network: "torch")
    monkeypatch.setattr(forecasting, "profiler_of", lambda name: proportional)
    found = digits(target="ms=20", runs=1)
    assert found.engine == "abacus"
    for cut in (found.original, *found.cuts):
        assert cut.ms == pytest.approx(1e-6 * cut.cost.macs, rel=1e-3)
    assert found.answer
    assert found.answer.reached
    assert 18 < (found.answer.reached.ms or 0) <= 20
    assert "Milliseconds in abacus: the first and the last are measured" in found.tables()
    missed = digits("normal", target="ms=5", runs=1).answer
    assert missed
    assert missed.why.startswith("target ms=5 is out of reach: normal leaves at least ms=14.")


def test_the_command(command: CommandLine, tmp_path: Path) -> None:
    words = "--cfg", CFG, "--weights", WEIGHTS, "--profile", "--strategy", "shortcut", "--runs", 0
    ended = command.run("info", *words, "--json", tmp_path / "x.json", "--target", "macs=0.4")
    assert (ended.code, ended.err) == (0, "")
    data = json.loads((tmp_path / "x.json").read_text())
    assert (data["kind"], data["schema"], len(data["cuts"])) == (KIND, 1, CUTS)
    for cut in (data["original"], *data["cuts"]):
        cells = f"| {cut['macs']:,} ", f"| {cut['parameters']:,} ", f" {cut['energy']:.1%} |"
        assert any(all(cell in row.replace("  ", " ") for cell in cells) for row in rows(ended.out))
    assert f"{data['minima']['normal']['macs']:,}" in ended.out
    assert f"from {LIMIT:.0%} on" in ended.out
    last = ended.out.splitlines()[-1]
    assert last.startswith(f"macs=0.4 can be met: {data['answer']['reached']['macs']:,} MACs, ")


def rows(text: str) -> list[str]:
    """The lines of a table, with single spaces."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_target_out_of_reach_is_a_failed_check(command: CommandLine, here: Path) -> None:
    ended = command.run("info", *MODEL, "--profile", "--runs", 0, "--target", "macs=0.001")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.splitlines()[-1].startswith("Can't be met: target macs=0.001 is out of reach")


def test_weights_are_random_where_none_are_named(command: CommandLine, here: Path) -> None:
    ended = command.run("info", "--cfg", "x.cfg", "--profile", "--runs", 0)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1].startswith("The weights are random")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strategy", "normal"), "--strategy has no effect without --profile"),
        (("--target", "macs=0.5"), "--target has no effect without --profile"),
        (("--runs", "0"), "--runs has no effect without --profile"),
        (("--profile", "--cutoff", "3"), "--cutoff has no effect with --profile: leave it out"),
        (("--profile", "--runs", "-1"), "--runs -1: expected at least 0"),
        (("--profile", "--target", "macs"), "target 'macs': expected NAME=VALUE"),
        (("--profile", "--strategy", "layer"), "strategy layer: expected one of normal"),
        (("--profile", "--target", "ms=3", "--runs", "0"), "target ms=3: needs latencies"),
        (("--profile", "--json", "x.cfg"), "x.cfg: is read here"),
    ],
)
def test_what_cannot_be_asked(
    command: CommandLine, here: Path, options: tuple[str, ...], message: str
) -> None:
    before = content(here)
    check_refused(command.run("info", *MODEL, *options), message)
    assert content(here) == before


def test_a_network_that_cannot_be_cut(tmp_path: Path) -> None:
    (tmp_path / "x.cfg").write_text(GOOD.replace("filters=8", "filters=1"))
    found = forecast(str(tmp_path / "x.cfg"), "random", "shortcut", runs=0)
    assert {cut.cost for cut in found.cuts} == {found.original.cost}


def test_a_network_without_macs(tmp_path: Path) -> None:
    text = "[net]\nwidth=8\nheight=8\nchannels=3\n[avgpool]\n[softmax]\n"
    (tmp_path / "x.cfg").write_text(text)
    found = forecast(str(tmp_path / "x.cfg"), "random", "shortcut", runs=0)
    assert [cut.cost.macs for cut in found.cuts] == [0] * CUTS
    assert " 0.0% |" in found.tables()
