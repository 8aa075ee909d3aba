"""Many cuts side by side: each is what prune makes of it alone, and none is made twice."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import CommandLine
from jobs import make_job, prune
from networks import build
from outcomes import WHOLE
from pruning.run.request import Request
from pruning.run.trials import make
from specs import spec
from tiny_data import CLASSIFIER, DETECTOR, make_classification_data, make_detection_data

from pruning.calibration import statistics as evidence
from pruning.calibration.images import split
from pruning.calibration.recovery import head_error
from pruning.measure import metric as judge
from pruning.measure.metric import ERROR, HeadError, Kept
from pruning.proof.engines.base import EngineError
from pruning.registry import RECOVERIES
from pruning.run import trials
from pruning.run.compare import COUNTED, ORIGINAL, Comparison, Cut, Outcome, dump, load
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


def request(**changes: object) -> Request:
    given = Request(
        "x.cfg", "x.weights", ("shortcut",), ("bn",), ("macs=0.6",), ("fold",), data="x.data"
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def compared(asked: Request) -> Comparison:
    outcomes = {outcome.key: outcome for outcome in make(asked, {})}
    found = Comparison.of(asked.keys(), outcomes)
    assert found
    return found


# What the numbers are


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_every_cut_is_what_prune_makes(here: Path, kind: str) -> None:
    if kind == "classifier":
        model(CLASSIFIER)
        make_classification_data(here)
    asked = request(
        strategies=("normal", "slim"),
        importances=("bn", "least-squares"),
        targets=("params=0.5",),
        recoveries=tuple(RECOVERIES),
        calibrate="pictures",
    )
    found = compared(asked)
    assert len(found.outcomes) == 16
    for outcome in found.outcomes:
        cut = outcome.cut
        wish = spec(cut.strategy, target=cut.target, importance=cut.importance)
        job = make_job("x.cfg", "x.weights", wish, verify=(), runs=0, data="x.data", workers=0)
        job = replace(job, calibrate="pictures", recover=cut.recover)
        if outcome.found is None:
            with pytest.raises(PlanError, match=f"^{re.escape(outcome.note)}$"):
                prune(job)
            continue
        report = prune(job).report
        for who, cost in ((outcome.found, report.after), (found.original, report.before)):
            assert cost.accuracy
            assert (who.score, who.score_name) == (cost.accuracy.score, cost.accuracy.score_name)
            counts = cost.channels, cost.parameters, cost.macs, cost.weights_bytes
            assert tuple(getattr(who, name) for name in COUNTED) == counts
    assert sum(outcome.found is not None for outcome in found.outcomes) == 8  # slim


def test_without_data_heads_are_compared_on_images_that_calibrated_nothing(here: Path) -> None:
    asked = request(data=None, calibrate="pictures", recoveries=("fold", "reconstruct"))
    found = compared(asked)
    assert (found.score_name, found.original.score) == (ERROR, 0.0)
    lab = trials.Trials(asked, lambda step: None)
    images = trials.calibration_images("pictures", lab.graph.network, 64)
    for outcome in found.outcomes:
        job = make_job("x.cfg", "x.weights", spec("shortcut", target="macs=0.6", importance="bn"))
        job = replace(job, verify=(), runs=0, calibrate="pictures", recover=outcome.cut.recover)
        expected = head_error(lab.graph.network, prune(job).smaller, split(images)[1])
        assert outcome.found
        assert outcome.found.score == pytest.approx(expected, rel=1e-6)


def test_noise_judges_where_there_are_no_images(here: Path) -> None:
    found = compared(request(data=None, weights="random:3", targets=("macs=0.8", "macs=0.3")))
    small, large = (outcome.found.score for outcome in found.outcomes if outcome.found)
    assert small is not None
    assert large is not None
    assert 0 < small < large


def test_what_cuts_share_is_made_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, int] = {}
    shared = ("load_model", "gather", "calibration_images", "Way")
    places = dict.fromkeys(shared, trials) | {"gather": evidence}
    for name, module in {**places, "evaluation_loader": judge, "evaluate": judge}.items():
        monkeypatch.setattr(module, name, counting(counts, name, getattr(module, name)))
    asked = request(
        strategies=("normal", "shortcut"),
        importances=("bn", "taylor"),
        targets=("macs=0.8", "macs=0.6"),
        recoveries=("fold", "bn"),
        calibrate="pictures",
    )
    assert len(compared(asked).outcomes) == 16
    evaluated = counts.pop("evaluate")
    assert 9 <= evaluated <= 17  # where making up for a cut gains nothing it isn't judged twice
    assert counts == {**dict.fromkeys(shared, 1), "Way": 4, "evaluation_loader": 1}


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
    kept = Kept(loader)  # type: ignore[arg-type]
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
        turn = len(Clock.asked)
        Clock.asked.append(runs)
        return (10.0 + turn // 2) / (1 + turn % 2)


def test_times_alternate_and_belong_to_the_structure(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "OpenCV", Clock)
    monkeypatch.setattr(Clock, "asked", [])
    asked = request(
        targets=("macs=0.8", "macs=0.6"), recoveries=("fold", "bn"), calibrate="pictures", runs=7
    )
    found = compared(asked)
    assert Clock.asked == [7] * (2 * 2 * trials.TURNS)  # not anew for the second recovery
    measured = [outcome.found for outcome in found.outcomes if outcome.found]
    assert [(m.whole_ms, m.ms) for m in measured] == [(11.0, 5.5)] * 2 + [(14.0, 7.0)] * 2
    assert found.whole_ms == 12.5
    assert [found.ms(m) for m in measured] == [6.25] * 4


def test_no_engine_is_no_reason_to_stop(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(threads: int) -> None:
        raise EngineError("OpenCV is not installed")

    monkeypatch.setattr(trials, "OpenCV", missing)
    asked = request(runs=1)
    (first,) = compared(asked).outcomes
    assert first.found
    assert (first.found.ms, first.note) == (None, "not timed: OpenCV is not installed")
    assert "1: not timed: OpenCV is not installed" in compared(asked).tables()


def test_times_are_added_without_judging_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {outcome.key: outcome for outcome in make(request(), {})}
    counts: dict[str, int] = {}
    monkeypatch.setattr(judge, "evaluate", counting(counts, "evaluate", judge.evaluate))
    monkeypatch.setattr(trials, "OpenCV", Clock)
    (timed,) = make(request(runs=2), known)
    assert timed.found
    assert timed.found.ms
    before = known[timed.key].found
    assert before == replace(timed.found, ms=None, whole_ms=None)
    assert not counts


# Which outcomes are still good


def test_keys_change_with_what_matters(here: Path) -> None:
    both = {"importances": ("bn", "taylor"), "recoveries": ("fold", "bn"), "calibrate": "pictures"}
    asked = request(**both)
    before = asked.keys()
    assert len(set(before.values())) == 5
    plain, looking = Cut("shortcut", "bn", "macs=0.6", "fold"), set(before) - {ORIGINAL}
    looking.remove(plain)

    def changed(**changes: object) -> set[Cut]:
        after = request(**both, **changes).keys()
        return {cut for cut, key in before.items() if after[cut] != key}

    assert changed() == changed(runs=3) == changed(targets=("macs=0.6", "macs=0.4")) == set()
    assert changed(calibration_images=5) == looking  # they don't judge: there is data
    assert changed(points=11) == set(before)
    os.utime("pictures/0.png", (0, 0))
    assert changed() == looking
    for name in ("x.cfg", "x.weights", "x.data", "valid.txt"):
        told = Path(name).stat()
        os.utime(name, (0, 0))
        assert changed() == set(before), name
        os.utime(name, ns=(told.st_atime_ns, told.st_mtime_ns))
    assert changed() == looking


def test_outcomes_survive_their_file(tmp_path: Path) -> None:
    cut = Cut("slim", "bn", "macs=0.5", "fold")
    found = replace(WHOLE, score=None, ms=2.5, whole_ms=5.0)
    outcomes = [
        Outcome(ORIGINAL, "a", WHOLE),
        Outcome(cut, "b", found, "said"),
        Outcome(replace(cut, strategy="tiny"), "c", None, "no"),
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
    "content",
    [
        "",
        "[]",
        "\xff",
        "{}",
        '{"format": "x"}',
        "[" * 100000,
        *(
            dump({"a": Outcome(ORIGINAL, "a", WHOLE)}, ["a"]).replace(*change)
            for change in (
                ('"a"', "3"),
                ("100,", "null,"),
                ("0.8", '"0.8"'),
                ('"cuts": [', '"cuts": ["x",'),
                ('"score":', '"scare":'),
                ('"others"', '"other"'),
            )
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "compare.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DarknetError, match="not a comparison of cuts"):
        load(path)


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
    told = best.partition("tools/prune.py ")[2].split()
    ended = command.run("prune", *told, "--runs", "0", "--data", "x.data", "--json", "report.json")
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
    for name in ("load_model", "operate"):
        monkeypatch.setattr(trials, name, counting(counts, name, getattr(trials, name)))
    assert command.run("compare", *GIVEN, *TWO).out == first.out
    assert not counts
    ended = command.run("compare", *GIVEN, *TWO[:-1], "macs=0.6,macs=0.8,params=0.6")
    assert (ended.code, counts) == (0, {"load_model": 1, "operate": 2})
    assert command.run("compare", *GIVEN, *TWO).out == first.out  # the others are kept for later
    assert len(load(Path("out/compare.json"))) == 7


def test_an_interrupt_keeps_what_is_done(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: CommandLine
) -> None:
    wanted = (*GIVEN, "--strategies", "shortcut", "--importances", "bn,l1,l2", "--targets")
    ended = command.run("compare", *wanted, "macs=0.6", "--out", "whole")
    whole = ended.out.replace("whole", "out")
    cut = trials.operate
    calls = iter((cut, cut, None))

    def operate(*arguments: object) -> object:
        function = next(calls)
        if function is None:
            raise KeyboardInterrupt
        return function(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(trials, "operate", operate)
    ended = command.run("compare", *wanted, "macs=0.6")
    assert ended.code == 130
    assert "Interrupted: 2 of 3 cuts are made; the same command goes on." in ended.out
    assert "2 combinations" in ended.out
    assert sorted(os.listdir("out")) == list(FILES)
    counts: dict[str, int] = {}
    monkeypatch.setattr(trials, "operate", counting(counts, "operate", cut))
    ended = command.run("compare", *wanted, "macs=0.6")
    assert (ended.code, ended.out, counts) == (0, whole, {"operate": 1})


def test_an_interrupt_before_anything_leaves_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: CommandLine
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "load_model", interrupted)
    ended = command.run("compare", *GIVEN, *TWO)
    assert (ended.code, ended.out) == (130, "")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--targets", "macs=0.5", "--strategies", "slam"), "strategy slam: expected some of"),
        (("--targets", "macs=0.5", "--strategies", "bayesian"), "strategy bayesian: expected"),
        (("--targets", "macs=0.5", "--strategies", ","), "strategy: expected at least one"),
        (("--targets", "macs=0.5", "--importances", "x"), "importance x: expected some of"),
        (("--targets", "macs=0.5", "--recover", "x"), "recover x: expected some of"),
        (("--targets", "macs=0.5", "--importances", "taylor"), "importance taylor: needs images"),
        (("--targets", "macs=0.5", "--recover", "bn"), "recover bn: needs images: --calibrate"),
        (("--targets", ","), "target: expected at least one"),
        ((), "the following arguments are required: --targets"),
        (("--targets", "macs=2.5"), "target macs=2.5: expected a share"),
        (("--targets", "max=0.5"), "target max=0.5: 'max' is none of"),
        (("--targets", "macs=0.5,ms=12"), "target ms=12: only channels, params, macs, bytes are"),
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
    given: tuple[str, ...],
    says: str,
) -> None:
    before = sorted(here.rglob("*"))
    ended = command.run("compare", *GIVEN, *given)
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
        "error: out/compare.json: not a comparison of cuts: move it away\n",
    )
    assert Path("out/compare.json").read_text() == "mine"


def test_numbers_that_are_none(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeadError, "scored", lambda self, network, say: (ERROR, math.nan))
    found = compared(request(data=None))
    assert [one.found and one.found.score for one in found.outcomes] == [None]
    assert not found.best
    assert json.loads(dump({one.key: one for one in found.outcomes}, []))
