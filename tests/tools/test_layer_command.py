"""Whole blocks removed by the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Ended
from paths import DIGITS

MODEL = ("--cfg", DIGITS[0], "--weights", DIGITS[1])


@pytest.fixture
def pruned(command, monkeypatch, tmp_path) -> Callable[..., Ended]:
    monkeypatch.chdir(tmp_path)
    return lambda *more: command.run("prune", *MODEL, "--runs", 0, "--verify", "torch", *more)


@pytest.mark.parametrize(
    ("options", "stem"),
    [
        (("layer", "--blocks", 2), "digits-layer-2"),
        (("layer", "--target", "macs=0.8"), "digits-layer-macs0.8"),
        (("slim+layer", "--blocks", 1), "digits-slim+layer-1-0.5"),
        (
            ("slim+layer", "--blocks", 2, "--target", "params=.3"),
            "digits-slim+layer-2-parameters.3",
        ),
    ],
)
def test_the_command(pruned, options, stem):
    more = ("--json", "x.json", "--save-plan", "p.json", "--figures", "figures")
    ended = pruned("--strategy", *options, *more)
    assert ended.code == 0, ended.err
    assert "blocks that are gone" in ended.out
    made = {path.name for path in Path("pruned").iterdir()}
    assert made == {f"{stem}.{kind}" for kind in ("cfg", "weights", "json")}
    assert Path("figures", f"{stem}-channels.png").stat().st_size > 1000
    report = json.loads(Path("x.json").read_text())
    assert report["strategy"] == options[0]
    assert report["proof"]["blocks"] <= 1e-6
    plan = json.loads(Path("p.json").read_text())
    assert plan["blocks"] == [block["shortcut"] for block in report["blocks"]]
    again = pruned("--plan", "p.json", "--name", "again")
    assert again.code == 0, again.err
    for kind in ("cfg", "weights"):
        first, second = (Path("pruned", f"{name}.{kind}") for name in (stem, "again"))
        assert first.read_bytes() == second.read_bytes()


def test_a_dry_run_writes_the_plan_only(pruned):
    ended = pruned("--strategy", "layer", "--blocks", 1, "--dry-run", "--save-plan", "p.json")
    assert ended.code == 0, ended.err
    assert "blocks that are gone" in ended.out
    assert [path.name for path in Path().iterdir()] == ["p.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("layer",), "layer doesn't take percent: use --blocks N, or --target"),
        (("layer", "--blocks", 9), "layer can remove 4"),
        (("layer", "--blocks", 0), "blocks 0: expected at least 1"),
        (("layer", "--blocks", "x"), "invalid int value"),
        (("layer", "--blocks", 1, "--percent", 0.5), "layer doesn't take blocks and percent: use"),
        (
            ("layer", "--blocks", 1, "--compare", "layer"),
            "--compare has no effect with --strategy layer",
        ),
        (("layer", "--blocks", 1, "--per-mac"), "--per-mac has no effect with --strategy layer"),
        (
            ("layer", "--blocks", 1, "--importance", "l1"),
            "--importance has no effect with --strategy layer",
        ),
        (
            ("layer", "--blocks", 1, "--layer-keep", 0.1),
            "--layer-keep has no effect with --strategy layer",
        ),
        (("layer", "--blocks", 1, "--round", 8), "--round has no effect with --strategy layer"),
        (
            ("layer", "--blocks", 1, "--thresholds", "auto"),
            "--thresholds has no effect with --strategy layer",
        ),
        (
            ("layer", "--blocks", 1, "--keep-min", 2),
            "--keep-min has no effect with --strategy layer",
        ),
        (
            ("layer", "--blocks", 1, "--target", "macs=0.9"),
            "layer doesn't take blocks and targets: use",
        ),
        (("slim+layer",), "slim+layer doesn't take percent: use --blocks N"),
        (("normal", "--blocks", 1), "normal doesn't take blocks: use --percent 0.5"),
        (("bayesian", "--blocks", 1), "--blocks has no effect with --strategy bayesian"),
    ],
)
def test_what_the_command_refuses(pruned, options, message):
    ended = pruned("--strategy", *options)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert message in ended.err
    assert not list(Path().iterdir())
