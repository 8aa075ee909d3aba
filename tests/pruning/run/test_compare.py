"""Many cuts side by side: each is what prune makes of it alone, and none is made twice."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CommandLine
from jobs import Job, make_job, prune
from networks import build
from outcomes import ORIGINAL
from specs import spec
from tiny_data import CLASSIFIER, DETECTOR, make_classification_data, make_detection_data

from pruning import session
from pruning.calibration.images import split
from pruning.measure import metric
from pruning.measure.head_error import ERROR, HeadError, head_error
from pruning.measure.metric import CachedImages
from pruning.proof.engines.base import EngineError
from pruning.registry import AUTO, RECOVERIES
from pruning.run import compare
from pruning.run.compare import Request, Trials
from pruning.run.compare import compared as made
from pruning.run.comparison import Combination, Comparison, Outcome, dump, load
from pruning.session import Inputs
from yolo.errors import DarknetError, PlanError
from yolo.models.weights import save_weights

FILES = ("compare.csv", "compare.json", "compare.png")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a detector, its data and pictures, the one that we work in."""
    monkeypatch.chdir(tmp_path)
    model(DETECTOR)
    make_detection_data(tmp_path)
    random = np.random.default_rng(1)
    Path("pictures").mkdir()
    for number in range(20):
        picture = cv2.resize(random.integers(0, 256, (6, 6, 3)).astype(np.uint8), (40, 40))
        cv2.imwrite(f"pictures/{number}.png", picture)
    return tmp_path


def model(text: str) -> None:
    Path("x.cfg").write_text(text)
    save_weights(build(text), "x.weights")


INPUTS = Inputs("x.cfg", "x.weights", data="x.data", workers=0)


def request(inputs: Inputs = INPUTS, **changes: object) -> Request:
    lists = {
        "strategies": ("shortcut",),
        "importances": ("bn",),
        "targets": ("macs=0.6",),
        "recoveries": ("fold",),
    }
    return Request(inputs, **{**lists, **changes})  # type: ignore[arg-type]


def inputs(**changes: object) -> Inputs:
    return replace(INPUTS, **changes)  # type: ignore[arg-type]


def compared(asked: Request) -> Comparison:
    outcomes = {outcome.key: outcome for outcome in made(asked, {})}
    comparison = Comparison.of(asked.keys(), outcomes)
    assert comparison
    return comparison


# What the numbers are


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_every_cut_is_what_prune_makes(here: Path, kind: str) -> None:
    if kind == "classifier":
        model(CLASSIFIER)
        make_classification_data(here)
    asked = request(
        inputs(calibrate="pictures"),
        strategies=("normal", "slim"),
        importances=("bn", "least-squares"),
        targets=("params=0.5",),
        recoveries=tuple(RECOVERIES),
    )
    comparison = compared(asked)
    assert len(comparison.outcomes) == 16
    for outcome in comparison.outcomes:
        job = job_of(outcome, data="x.data", workers=0)
        if outcome.found is None:
            with pytest.raises(PlanError, match=f"^{re.escape(outcome.note)}$"):
                prune(job)
            continue
        report = prune(job).report
        for scored, measured in (
            (outcome.found, report.after),
            (comparison.original, report.before),
        ):
            assert measured.score
            assert (scored.score, scored.score_name) == (measured.score.value, measured.score.title)
            assert scored.cost == measured.cost
    assert sum(outcome.found is not None for outcome in comparison.outcomes) == 8  # slim


def job_of(outcome: Outcome, **inputs: object) -> Job:
    """What makes a single cut of a comparison, with pictures to calibrate."""
    assert outcome.combination
    strategy, importance, target, recover = astuple(outcome.combination)
    asked = spec(strategy, target=target, importance=importance, recover=recover, round_to=AUTO)
    options = {"verify": (), "runs": 0, "calibrate": "pictures", **inputs}
    return make_job("x.cfg", "x.weights", asked, **options)  # type: ignore[arg-type]


def test_without_data_heads_are_compared_on_images_that_calibrated_nothing(here: Path) -> None:
    asked = request(inputs(data=None, calibrate="pictures"), recoveries=("fold", "reconstruct"))
    comparison = compared(asked)
    assert (comparison.score_name, comparison.original.score) == (ERROR, 0.0)
    opened = Trials(asked, lambda step: None).session
    assert opened.images is not None
    for outcome in comparison.outcomes:
        cut = prune(job_of(outcome)).cut
        expected = head_error(opened.original, cut.network, split(opened.images)[1])
        assert outcome.found
        assert outcome.found.score == pytest.approx(expected, rel=1e-6)


def test_noise_tells_where_there_are_no_images(here: Path) -> None:
    comparison = compared(
        request(inputs(data=None, weights="random:3"), targets=("macs=0.8", "macs=0.3"))
    )
    small, large = (outcome.found.score for outcome in comparison.outcomes if outcome.found)
    assert small is not None
    assert large is not None
    assert 0 < small < large


def test_what_cuts_share_is_made_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, int] = {}
    shared = ("load_model", "statistics_of", "calibration_images", "schedule_of")
    modules = dict.fromkeys(shared, session)
    for name, module in {**modules, "evaluation_loader": metric, "evaluate": metric}.items():
        monkeypatch.setattr(module, name, counting(counts, name, getattr(module, name)))
    asked = request(
        inputs(calibrate="pictures"),
        strategies=("normal", "shortcut"),
        importances=("bn", "taylor"),
        targets=("macs=0.8", "macs=0.6"),
        recoveries=("fold", "bn"),
    )
    assert len(compared(asked).outcomes) == 16
    evaluated = counts.pop("evaluate")
    assert 9 <= evaluated <= 17  # where recovery gains nothing it isn't evaluated twice
    assert counts == {**dict.fromkeys(shared, 1), "schedule_of": 4, "evaluation_loader": 1}


def counting(counts: dict[str, int], name: str, function: Callable) -> Callable:
    def counted(*arguments: object, **options: object) -> object:
        counts[name] = counts.get(name, 0) + 1
        return function(*arguments, **options)

    return counted


def test_images_are_kept_from_one_evaluation_to_the_next() -> None:
    class Loader:
        data, letterbox, items, read = None, False, (), 0

        def __iter__(self) -> Iterator[int]:
            self.read += 1
            yield from (1, 2)

    loader = Loader()
    kept = CachedImages(loader)  # type: ignore[arg-type]
    for _ in kept:  # left before its end, it isn't all that there is
        break
    assert [list(kept), list(kept)] == [[1, 2], [1, 2]]
    assert loader.read == 2


# Times


class Clock:
    """An engine in which all networks but the first take half as long; it gets slower."""

    def __init__(self, threads: int = 1) -> None:
        pass

    asked: list[int] = []  # noqa: RUF012

    def latency(self, cfg: object, network: object, runs: int) -> float:
        number = len(Clock.asked)
        Clock.asked.append(runs)
        return (10.0 + number // 2) / (1 + number % 2)


def test_times_alternate_and_belong_to_the_structure(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "OpenCV", Clock)
    monkeypatch.setattr(Clock, "asked", [])
    asked = request(
        inputs(calibrate="pictures"),
        targets=("macs=0.8", "macs=0.6"),
        recoveries=("fold", "bn"),
        runs=7,
    )
    comparison = compared(asked)
    assert Clock.asked == [7] * (2 * 2 * compare.ROUNDS)  # not anew for the second recovery
    measured = [outcome.found for outcome in comparison.outcomes if outcome.found]
    assert [(m.original_ms, m.ms) for m in measured] == [(11.0, 5.5)] * 2 + [(14.0, 7.0)] * 2
    assert comparison.original_ms == 12.5
    assert [comparison.ms(m) for m in measured] == [6.25] * 4


def test_no_engine_is_no_reason_to_stop(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(threads: int) -> None:
        raise EngineError("OpenCV is not installed")

    monkeypatch.setattr(compare, "OpenCV", missing)
    asked = request(runs=1)
    (first,) = compared(asked).outcomes
    assert first.found
    assert (first.found.ms, first.note) == (None, "not timed: OpenCV is not installed")
    assert "1: not timed: OpenCV is not installed" in compared(asked).tables()


def test_times_are_added_without_evaluating_again(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {outcome.key: outcome for outcome in made(request(), {})}
    counts: dict[str, int] = {}
    monkeypatch.setattr(metric, "evaluate", counting(counts, "evaluate", metric.evaluate))
    monkeypatch.setattr(compare, "OpenCV", Clock)
    (timed,) = made(request(runs=2), known)
    assert timed.found
    assert timed.found.ms
    before = known[timed.key].found
    assert before == replace(timed.found, ms=None, original_ms=None)
    assert not counts


# Which outcomes are still good


def test_keys_change_with_what_matters(here: Path) -> None:
    both = {"importances": ("bn", "taylor"), "recoveries": ("fold", "bn")}
    original = inputs(calibrate="pictures")
    before = request(original, **both).keys()
    assert len(set(before.values())) == 5
    plain, looking = Combination("shortcut", "bn", "macs=0.6", "fold"), set(before) - {None}
    looking.remove(plain)

    def changed(inputs: Inputs = original, **changes: object) -> set[Combination | None]:
        after = request(inputs, **{**both, **changes}).keys()
        return {combination for combination, key in before.items() if after[combination] != key}

    assert changed() == changed(runs=3) == changed(targets=("macs=0.6", "macs=0.4")) == set()
    assert changed(replace(original, calibration_images=5)) == looking  # the score is of the data
    assert changed(replace(original, points=11)) == set(before)
    os.utime("pictures/0.png", (0, 0))
    assert changed() == looking
    for name in ("x.cfg", "x.weights", "x.data", "valid.txt"):
        stat = Path(name).stat()
        os.utime(name, (0, 0))
        assert changed() == set(before), name
        os.utime(name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert changed() == looking


def test_outcomes_survive_their_file(tmp_path: Path) -> None:
    slim = Combination("slim", "bn", "macs=0.5", "fold")
    scored = replace(ORIGINAL, score=None, ms=2.5, original_ms=5.0)
    outcomes = [
        Outcome(None, "a", ORIGINAL),
        Outcome(slim, "b", scored, "said"),
        Outcome(replace(slim, strategy="tiny"), "c", None, "no"),
    ]
    known = {outcome.key: outcome for outcome in outcomes}
    path = tmp_path / "compare.json"
    path.write_text(dump(known, ["a", "c"], ["c"]))
    assert load(path) == known
    data = json.loads(path.read_text())
    assert [(part["key"], part["best"]) for part in data["cuts"]] == [("a", False), ("c", True)]
    assert [part["key"] for part in data["others"]] == ["b"]
    assert load(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    "change",
    [
        ('"a"', "3"),
        ("100,", "null,"),
        ("0.8", '"0.8"'),
        ('"cuts": [', '"cuts": ["x",'),
        ('"score":', '"scare":'),
        ('"others"', '"other"'),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: tuple[str, str]) -> None:
    content = dump({"a": Outcome(None, "a", ORIGINAL)}, ["a"]).replace(*change)
    path = tmp_path / "compare.json"
    path.write_text(content)
    with pytest.raises(DarknetError, match="is a damaged comparison of cuts"):
        load(path)
    assert path.read_text() == content


# The command


GIVEN = ("--cfg", "x.cfg", "--weights", "x.weights", "--runs", "0", "--out", "out")
TWO = ("--strategies", "shortcut,tiny", "--importances", "bn", "--targets", "macs=0.6")


def test_the_command_writes_three_files_and_says_what_is_best(
    here: Path, command: CommandLine
) -> None:
    ended = command.run("compare", *GIVEN, *TWO, "--data", "x.data")
    assert (ended.code, ended.err) == (0, "")
    assert sorted(os.listdir("out")) == list(FILES)
    assert "1: x.cfg:" in ended.out
    assert "strategy tiny is for networks without shortcuts" in ended.out
    best = next(row for row in ended.out.splitlines() if row.startswith("Best for macs=0.6"))
    options = best.partition("tools/prune.py ")[2].split()
    ended = command.run(
        "prune", *options, "--runs", "0", "--data", "x.data", "--json", "report.json"
    )
    assert ended.code == 0
    report = json.loads(Path("report.json").read_text())["after"]
    (made,) = (
        cut for cut in json.loads(Path("out/compare.json").read_text())["cuts"] if cut["best"]
    )
    assert (made["score"], made["macs"]) == (report["map"], report["macs"])


def test_what_is_there_is_not_made_again(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: CommandLine
) -> None:
    first = command.run("compare", *GIVEN, *TWO)
    counts: dict[str, int] = {}
    for name in ("load_model", "compact_network"):
        monkeypatch.setattr(session, name, counting(counts, name, getattr(session, name)))
    assert command.run("compare", *GIVEN, *TWO).out == first.out
    assert not counts
    ended = command.run("compare", *GIVEN, *TWO[:-1], "macs=0.6,macs=0.8,params=0.6")
    assert (ended.code, counts) == (0, {"load_model": 1, "compact_network": 2})
    assert command.run("compare", *GIVEN, *TWO).out == first.out  # the others are kept for later
    assert len(load(Path("out/compare.json"))) == 7


def test_an_interrupt_keeps_what_is_done(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: CommandLine
) -> None:
    wanted = (*GIVEN, "--strategies", "shortcut", "--importances", "bn,l1,l2", "--targets")
    ended = command.run("compare", *wanted, "macs=0.6", "--out", "whole")
    whole = ended.out.replace("whole", "out")
    cut = session.compact_network
    calls = iter((cut, cut, None))

    def interrupted(*arguments: object) -> object:
        function = next(calls)
        if function is None:
            raise KeyboardInterrupt
        return function(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "compact_network", interrupted)
    ended = command.run("compare", *wanted, "macs=0.6")
    assert ended.code == 130
    assert "Interrupted: 2 of 3 cuts are made; the same command goes on." in ended.out
    assert "2 combinations" in ended.out
    assert sorted(os.listdir("out")) == list(FILES)
    counts: dict[str, int] = {}
    monkeypatch.setattr(session, "compact_network", counting(counts, "compact_network", cut))
    ended = command.run("compare", *wanted, "macs=0.6")
    assert (ended.code, ended.out, counts) == (0, whole, {"compact_network": 1})


def test_an_interrupt_before_anything_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: CommandLine
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "load_model", interrupted)
    ended = command.run("compare", *GIVEN, *TWO)
    assert (ended.code, ended.out) == (130, "")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--targets", "macs=0.5", "--strategies", "slam"), "strategy slam: expected one of"),
        (("--targets", "macs=0.5", "--strategies", "bayesian"), "bayesian doesn't take targets"),
        (("--targets", "macs=0.5", "--strategies", ","), "strategy: expected at least one"),
        (("--targets", "macs=0.5", "--importances", "x"), "importance x: expected one of"),
        (("--targets", "macs=0.5", "--recover", "x"), "recover x: expected one of"),
        (
            ("--targets", "macs=0.5", "--importances", "taylor"),
            "importance taylor: needs images (--c",
        ),
        (("--targets", "macs=0.5", "--recover", "bn"), "recover bn: needs images (--calibrate)"),
        (("--targets", ","), "target: expected at least one"),
        ((), "the following arguments are required: --targets"),
        (("--targets", "macs=2.5"), "target macs=2.5: expected a share"),
        (("--targets", "max=0.5"), "target max=0.5: expected one of"),
        (("--targets", "macs=0.5,ms=12"), "target ms=12: only channels, parameters, macs, by"),
        (("--targets", "macs=0.5", "--runs", "-1"), "--runs -1: expected at least 0"),
        (("--targets", "macs=0.5", "--points", "11"), "--points 11: needs --data"),
        (("--targets", "macs=0.5", "--calibration-images", "0"), "--calibration-images 0: expect"),
        (("--targets", "macs=0.5", "--data", "y.data"), "y.data: can't read it: no such file"),
        (("--targets", "macs=0.5", "--calibrate", "none"), "none: can't read it: no such file"),
        (("--targets", "macs=0.5", "--cfg", "y.cfg"), "y.cfg: can't read it: no such file"),
        (("--targets", "macs=0.5", "--out", "x.cfg"), "x.cfg is not a directory"),
    ],
)
def test_wrong_input_is_one_line(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: CommandLine,
    options: tuple[str, ...],
    says: str,
) -> None:
    before = sorted(here.rglob("*"))
    ended = command.run("compare", *GIVEN, *options)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_a_file_of_something_else_stays(here: Path, command: CommandLine) -> None:
    Path("out").mkdir()
    Path("out/compare.json").write_text("mine")
    ended = command.run("compare", *GIVEN, *TWO)
    assert (ended.code, ended.err) == (
        2,
        "error: out/compare.json: is not a comparison of cuts; use another file name, or remove "
        "it\n",
    )
    assert Path("out/compare.json").read_text() == "mine"


def test_numbers_that_are_none(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeadError, "scored", lambda self, network, say: (ERROR, math.nan))
    comparison = compared(request(inputs(data=None)))
    assert [outcome.found and outcome.found.score for outcome in comparison.outcomes] == [None]
    assert not comparison.best
    assert json.loads(dump({outcome.key: outcome for outcome in comparison.outcomes}, []))
