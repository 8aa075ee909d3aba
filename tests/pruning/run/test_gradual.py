"""prune.py --steps: what each step asks for, how it goes on, what it refuses."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jobs import make_job
from paths import ROOT
from specs import spec
from tiny_data import DETECTOR, make_detection_data

from pruning.cut.plan import Plan
from pruning.proof.engines.base import EngineError
from pruning.proof.verify import Proofs
from pruning.run.gradual import Gradual, amounts
from pruning.spec import Saved, Spec, Targets, Thresholds
from yolo.errors import PlanError
from yolo.models.load import load_model
from yolo.models.weights import save_weights

ORIGINALS = {"macs": 1_000_000, "parameters": 54_321, "channels": 300, "bytes": 217_284, "ms": 12.5}
shares = st.floats(0.01, 0.99).map(lambda share: round(share, 3))


@given(st.sampled_from(["macs", "parameters", "channels", "bytes"]), shares, st.integers(1, 9))
def test_every_step_leaves_the_same_share(name, share, steps):
    original = ORIGINALS[name]
    targets = amounts(spec("normal", target=f"{name}={share}"), steps, ORIGINALS)
    limits = [original, *(amount.all[0].limit for amount in targets)]
    assert len(targets) == steps
    # the last asks for what the share of the original is, to the last one
    assert share * original - 1 < limits[-1] <= share * original * (1 + 1e-9)
    for before, after in pairwise(limits):
        assert after == pytest.approx(before * share ** (1 / steps), abs=1 + before / 1000)
    # as they are read from the file of the steps
    assert [Targets.parse(str(amount)) for amount in targets] == targets


def test_steps_of_several_targets():
    targets = amounts(spec("normal", target="macs=0.25,ms=50,params=54k"), 2, ORIGINALS)
    assert list(map(str, targets)) == [
        "macs=500000,ms=12.5,parameters=54160",  # ms: met already
        "macs=250000,ms=12.5,parameters=54000",
    ]


@given(st.floats(0, 0.99), st.integers(1, 9))
def test_every_step_takes_the_same_percent(percent, steps):
    percents = amounts(spec("normal", percent), steps, {})
    assert len(set(percents)) == 1
    assert (1 - percents[0].share) ** steps == pytest.approx(1 - percent)


# In a folder


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.cfg").write_text(DETECTOR)
    make_detection_data(tmp_path / "shapes")
    asked = spec("shortcut", target="macs=0.5")
    proofs = ("torch", "opencv")
    return make_job(
        "x.cfg", "random:3", asked, data="shapes/x.data", verify=proofs, runs=0, workers=0
    )


class Training:
    """What stands for a training: all weights are multiplied; some of them are interrupted."""

    def __init__(self, *interrupted):
        self.folders, self.interrupted = [], list(interrupted)

    def __call__(self, cfg, weights, folder):
        self.folders.append(folder)
        if len(self.folders) in self.interrupted:
            raise KeyboardInterrupt
        network, header = load_model(str(cfg), str(weights))
        network.store(
            {
                i: {name: t * 1.01 if name == "weights" else t for name, t in tensors.items()}
                for i, tensors in network.state().items()
            }
        )
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(network, folder / "it.weights", header)
        return folder / "it.weights"


def gradual(job, train, steps=3, **settings):
    folder = Path("steps")
    return Gradual(job.inputs, job.spec, job.proofs, job.runs, steps, folder, train, settings)


def test_what_is_trained_is_cut_next(job):
    train = Training()
    tuned = gradual(job, train).run()
    assert [folder.parent.name for folder in train.folders] == ["1", "2", "3"]
    macs = [tuned.steps[0].before.cost.macs]
    for number, step in enumerate(tuned.steps, 1):
        assert step.before.cost.macs == macs[-1]
        assert step.masked < 1e-5
        report = json.loads(Path(f"steps/{number}/model.json").read_text())
        if number > 1:
            assert report["weights"] == f"steps/{number - 1}/trained.weights"
        macs.append(step.after.cost.macs)
    assert macs[1] > macs[2] > macs[3] == tuned.network.macs()
    assert macs[3] <= 0.5 * macs[0]
    assert tuned.engines["opencv"].value < 1e-4
    trained, _ = load_model("steps/3/model.cfg", "steps/3/trained.weights")
    cut, _ = load_model("steps/3/model.cfg", "steps/3/model.weights")
    for i, tensors in tuned.network.state().items():
        assert torch.equal(tensors["weights"], trained.state()[i]["weights"])
        assert torch.allclose(tensors["weights"], 1.01 * cut.state()[i]["weights"])


def test_it_goes_on_where_it_was_interrupted(job):
    whole = gradual(job, Training()).run()
    Path("steps").rename("unbroken")
    train = Training(2)
    with pytest.raises(KeyboardInterrupt):
        gradual(job, train).run()
    assert Path("steps/2/model.weights").exists()
    assert not Path("steps/2/trained.weights").exists()
    again = Training()
    tuned = gradual(job, again).run()
    assert [folder.parent.name for folder in again.folders] == ["2", "3"]
    for i, tensors in tuned.network.state().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, whole.network.state()[i][name])
    # and nothing is left to do
    done = Training()
    gradual(job, done).run()
    assert not done.folders


def test_a_folder_that_was_begun_otherwise(job):
    with pytest.raises(KeyboardInterrupt):
        gradual(job, Training(1), epochs=3).run()
    other = replace(job, spec=spec("shortcut", target="macs=0.6"))
    for changed, wanted in (
        (gradual(other, Training(), epochs=3), "spec"),
        (gradual(job, Training(), steps=2, epochs=3), "steps"),
        (gradual(job, Training(), epochs=4), "epochs"),
    ):
        with pytest.raises(PlanError, match=f"begun with another {wanted}: remove steps, or use"):
            changed.run()
    Path("steps/steps.json").write_text("[")
    with pytest.raises(PlanError, match=r"steps/steps.json: is not a list of steps"):
        gradual(job, Training(), epochs=3).run()


@pytest.mark.parametrize(
    ("changes", "steps", "message"),
    [
        ({}, 0, "steps 0: expected at least 1"),
        ({"data": None}, 2, "--steps needs labeled images to train with: --data"),
        (
            {"plan": Plan("slim", 0.5, {})},
            2,
            "combined with --strategy slim: cut once",
        ),
        ({"spec": Spec("bayesian", Thresholds())}, 2, "combined with --strategy bayesian: cut onc"),
        ({"spec": spec("slim+layer", 0.5, blocks=1)}, 2, "with --strategy slim\\+layer: cut once"),
        ({"spec": spec("normal", target="map-drop=0.1")}, 2, "combined with map-drop=0.1: it wo"),
        ({"spec": spec("normal", 0.5, importance="signal")}, 2, "with --importance signal: what"),
    ],
)
def test_what_cannot_be_done_in_steps(job, changes, steps, message):
    if "data" in changes:
        job = job.with_inputs(data=changes["data"])
    if "plan" in changes:
        job = replace(job, spec=Spec("slim", Saved(changes["plan"])))
    job = replace(job, spec=changes.get("spec", job.spec))
    with pytest.raises(PlanError, match=message):
        gradual(job, Training(), steps)


def test_an_engine_that_is_missing_is_reported_before_anything_is_cut(job):
    job = replace(job, proofs=Proofs(("darknet",), {"darknet": "nowhere.so"}))
    train = Training()
    with pytest.raises(EngineError, match=r"^nowhere.so: no such file"):
        gradual(job, train).run()
    assert not train.folders
    assert not Path("steps").exists()


# The command


@pytest.fixture
def command(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.cfg").write_text(DETECTOR)
    make_detection_data(tmp_path / "shapes")
    return command


GIVEN = ("--cfg", "x.cfg", "--weights", "random:3", "--data", "shapes/x.data", "--out", "out")
CUT = ("--strategy", "shortcut", "--target", "macs=0.5", "--verify", "torch", "--runs", 0)
TRAINED = ("--finetune", "--lr 0.001 --workers 0 --eval-every 0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--finetune", "--lr 1"), "--finetune: needs --steps or --finetune-epochs"),
        (("--steps", 2, "--finetune", "--ir 1"), "--ir"),
        (("--steps", 2, "--finetune", "'"), "no closing quotation"),
        (("--steps", 2, "--finetune", "--batch 0"), "--batch 0: expected at least 1"),
        (("--steps", 2, "--finetune=--help"), "see train.py --help"),
        (("--steps", 2, "--importance", "signal"), "what is cut has no posteriors; use --steps 1"),
        (("--steps", 2, "--finetune", "--epochs 3"), "prune.py sets --epochs itself; leave it out"),
        (("--steps", 2, "--dry-run"), "--dry-run can't be combined with --steps"),
        (("--steps", 2, "--figures", "f"), "--figures can't be combined with --steps"),
        (("--steps", 0), "steps 0: expected at least 1"),
        (("--finetune-epochs", 0), "--finetune-epochs 0: expected at least 1"),
    ],
)
def test_options_that_make_no_sense(command, options, message):
    ended = command.run("prune", *GIVEN, *CUT, *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("out").exists()


def test_cut_and_trained_in_turns(command):
    options = ("--json", "r.json", "--steps", 2, "--finetune-epochs", 1)
    ended = command.run("prune", *GIVEN, *CUT, *TRAINED, *options)
    assert ended.code == 0, ended.err
    assert "shortcut in 2 steps" in ended.out
    report = json.loads(Path("r.json").read_text())
    assert report["after"]["macs"] <= 0.5 * report["before"]["macs"]
    assert len(report["steps"]) == 2
    network, header = load_model("out/x-shortcut-macs0.5.cfg", "out/x-shortcut-macs0.5.weights")
    assert network.macs() == report["after"]["macs"]
    assert header.seen == 2 * 12  # three steps of four images, twice


def test_a_training_that_was_killed_before_it_wrote_its_model(command):
    options = ("--steps", 1, "--finetune-epochs", 1)
    assert command.run("prune", *GIVEN, *CUT, *TRAINED, *options).code == 0
    written = Path("out/x-shortcut-macs0.5.weights").read_bytes()
    folder = Path("out/x-shortcut-macs0.5-steps/1")
    (folder / "trained.weights").unlink()
    for path in (folder / "training").glob("model*"):
        path.unlink()
    ended = command.run("prune", *GIVEN, *CUT, *TRAINED, *options)
    assert ended.code == 0, ended.err
    assert Path("out/x-shortcut-macs0.5.weights").read_bytes() == written


def test_a_spec_that_fails_leaves_nothing_behind(command):
    options = (*TRAINED, "--steps", 1, "--finetune-epochs", 1)
    ended = command.run("prune", *GIVEN, *CUT, *options, "--only", 99)
    assert ended.code == 2
    assert not Path("out").exists()
    assert command.run("prune", *GIVEN, *CUT, *options, "--only", 1).code == 0


def test_a_training_that_fails_ends_it(command):
    options = ("--finetune", "--lr 1e30 --workers 0", "--steps", 1, "--finetune-epochs", 1)
    ended = command.run("prune", *GIVEN, *CUT, *options)
    assert (ended.code, ended.out) == (2, "")
    assert "not finite" in ended.err
    assert not Path("out/x-shortcut-macs0.5.weights").exists()


def test_ctrl_c_while_it_trains(command):
    arguments = (*GIVEN, *CUT, *TRAINED, "--steps", 1, "--finetune-epochs", 400)
    line = [sys.executable, *map(str, (ROOT / "tools/prune.py", *arguments))]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, start_new_session=True)
    last = Path("out/x-shortcut-macs0.5-steps/1/training/last.pt")
    for _ in range(600):
        if last.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert b"the same command goes on" in said
    assert b"Traceback" not in said
