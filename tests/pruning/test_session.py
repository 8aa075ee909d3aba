"""Jobs for targets, from a spec to the files."""

import json
from pathlib import Path

import pytest
from cfgs import NET, conv, shortcut
from jobs import make_job, prune
from random_cfg import sample
from specs import DATA_FREE, Trial, spec

from pruning.cut.plan import Plan
from pruning.registry import COMPARISONS
from yolo.cfg import Cfg
from yolo.models.randomize import randomize
from yolo.models.weights import Header, save_weights
from yolo.network import Network


def test_plans_remember_their_target(tmp_path):
    plan = Trial(sample(NET + conv(16) + conv(3)), target="macs=0.5").plan()
    plan.save(tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text())
    assert list(data)[:4] == ["kind", "schema", "strategy", "target"]
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
    job = make_job(
        "x.cfg", "x.weights", spec("shortcut", target="bytes=0.5"), verify=("torch",), runs=0
    )
    result = prune(job)
    report = result.report
    assert report.after.cost.bytes <= 0.5 * report.before.cost.bytes
    result.write(here, "y")
    assert (here / "y.weights").stat().st_size == report.after.cost.bytes
    data = json.loads((here / "y.json").read_text())
    assert (data["percent"], data["target"]) == (None, "bytes=0.5")
    assert "shortcut, bytes=0.5" in report.tables()
    result.cut.plan.save("plan.json")
    again = prune(make_job("x.cfg", "x.weights", spec("normal", 0.1), plan="plan.json", runs=0))
    assert again.cut.plan == result.cut.plan
    assert again.report.asked == "bytes=0.5"


def test_the_header_counts_among_the_bytes(here):
    """One byte less than what a cut takes, whose header is shorter than ours."""
    least = prune(make_job("x.cfg", "x.weights", spec("shortcut", 0.5), verify=(), runs=0))
    size = least.report.after.cost.bytes
    for target, same in ((f"bytes={size}", True), (f"bytes={size - 1}", False)):
        job = make_job("x.cfg", "x.weights", spec("shortcut", target=target), verify=(), runs=0)
        reached = prune(job).report.after.cost.bytes
        assert (reached == size) is same
        assert reached <= size


def run(command, *options):
    defaults = ("--cfg", "x.cfg", "--weights", "x.weights", "--out", "out", "--verify", "torch")
    return command.run("prune", *defaults, "--runs", 0, "--strategy", "shortcut", *options)


@pytest.mark.parametrize(
    ("options", "stem"),
    [
        (("--target", "macs=0.5"), "x-shortcut-macs0.5"),
        (("--target", "macs=0.5, bytes=2M"), "x-shortcut-macs0.5-bytes2M"),
        (("--target", "macs=0.5", "--target", "params=.4"), "x-shortcut-macs0.5-parameters.4"),
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
        (
            ("--target", "macs=0.5", "--percent", "0.5"),
            "--percent and --target can't be combined: use one of them",
        ),
        (("--target", "macs=0.001"), "target macs=0.001 is out of reach: shortcut leaves at least"),
        (("--round", "pow3"), "--round pow3: expected at least 1, or pow2"),
        (("--round", "-8"), "--round"),
        (("--layer-keep", "2"), "layer-keep 2: expected a share from 0 to 1"),
        (("--importance", "magic"), "--importance: invalid choice: 'magic'"),
        (("--compare", "magic"), "--compare: invalid choice: 'magic'"),
        (("--seed", "-1", "--importance", "random"), "seed -1: expected at least 0"),
        (
            ("--strategy", "bayesian", "--per-mac"),
            "--per-mac has no effect",
        ),
        (
            ("--strategy", "bayesian", "--target", "macs=1k"),
            "--target has no effect with --strategy bayesian",
        ),
    ],
)
def test_bad_options(here, command, options, message):
    ended = run(command, *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("out").exists()
