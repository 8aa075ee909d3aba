"""Sensitivity scans by the commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import CommandLine
from networks import build
from paths import DIGITS
from tiny_data import DETECTOR

from pruning.selection.importance import SENSITIVITY
from pruning.selection.sensitivity import Scan
from yolo.models.weights import save_weights


@pytest.fixture
def command(command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    Path("x.cfg").write_text(DETECTOR)
    save_weights(build(DETECTOR), "x.weights")
    return command


GIVEN = ("--cfg", "x.cfg", "--weights", "x.weights", "--runs", 0, "--strategy", "shortcut")


def test_the_command_scans_once_and_cuts_by_it(command: CommandLine) -> None:
    ended = command.run("prune", *GIVEN, "--scan", "s/scan.json", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert sorted(path.name for path in Path("s").iterdir()) == ["scan.json", "scan.png"]
    before = Path("s/scan.json").read_bytes()
    cut = (*GIVEN, "--target", "macs=0.5", "--verify", "torch", "--json", "r.json")
    ended = command.run("prune", *cut, "--scan", "s/scan.json", "--save-plan", "one.json")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(Path("r.json").read_text())["after"]["macs"] > 0
    assert Path("s/scan.json").read_bytes() == before
    named = ("--importance", SENSITIVITY, "--scan", "s/scan.json", "--save-plan", "two.json")
    assert command.run("prune", *cut, *named).code == 0
    assert Path("one.json").read_bytes() == Path("two.json").read_bytes()
    ended = command.run("prune", *GIVEN, "--plan", "one.json", "--scan", "other.json", "--dry-run")
    assert (ended.code, ended.err) == (
        2,
        "error: --scan has no effect with --plan: leave it out\n",
    )
    assert not Path("other.json").exists()


def test_digits_are_scanned_by_their_map(command: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    from yolo.datasets.formats.layout import Destination, write
    from yolo.datasets.formats.sample import sample as digits

    write(digits({"train": 2, "valid": 6}), Destination(tmp_path / "digits", tmp_path))
    model = ("--cfg", DIGITS[0], "--weights", DIGITS[1])
    data = ("--data", "digits.data", "--calibrate", "digits.data", "--recover", "fold")
    data += ("--calibration-images", 2)
    cut = ("--strategy", "shortcut", "--only", "6,18", "--percent", 0.5, "--verify", "none")
    out = ("--runs", 0, "--scan", "scan.json", "--json", "r.json")
    ended = command.run("prune", *model, *data, *cut, *out)
    assert (ended.code, ended.err) == (0, "")
    scan = Scan.load(Path("scan.json"))
    assert scan
    assert scan.score == json.loads(Path("r.json").read_text())["before"]["map"] > 0.8
    assert scan.key["importance"] == "least-squares"
    couples, narrow = scan.curves.values()
    assert couples.at(1) > 0.5 > narrow.at(0.5) + 0.1
    ended = command.run("prune", *model, *cut, *out)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(
        "error: scan.json: a scan, but not with these images, importance bn"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--importance", SENSITIVITY), "--importance sensitivity: needs a scan: --scan FILE"),
        (
            ("--importance", "l1", "--scan", "s.json"),
            "--scan can't be combined with --importance l1",
        ),
        (
            ("--strategy", "layer", "--blocks", 1, "--scan", "s.json"),
            "--scan has no effect with --strategy layer",
        ),
        (
            ("--strategy", "bayesian", "--scan", "s.json"),
            "--scan has no effect with --strategy bayesian",
        ),
        (("--scan", "x.cfg"), "x.cfg: is read here, so it isn't written"),
        (("--scan", "s.png"), "s.png: can't write: another output has the same path"),
        (("--scan", "mine.json"), "mine.json: is not a sensitivity scan; use another file name"),
        (("--scan", "x.cfg/s.json"), "x.cfg is not a directory"),
    ],
)
def test_wrong_input_is_one_line(command: CommandLine, options: tuple, says: str) -> None:
    Path("mine.json").write_text("mine")
    ended = command.run("prune", *GIVEN, *options)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert ended.err.count("\n") == 1
    assert sorted(path.name for path in Path().iterdir()) == ["mine.json", "x.cfg", "x.weights"]


def test_scans_are_not_compared(command: CommandLine) -> None:
    arguments = (*GIVEN[:6], "--targets", "macs=0.5", "--importances", f"bn,{SENSITIVITY}")
    ended = command.run("compare", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: importance sensitivity: use prune.py --scan for a single cut\n"
