"""tools/train.py and tools/export.py as users start them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from paths import ROOT
from tiny_data import CLASSIFIER, DETECTOR, make_classification_data, make_detection_data

from yolo.cfg import Cfg
from yolo.models.checkpoint import load_checkpoint
from yolo.models.load import load_model
from yolo.models.weights import load_weights
from yolo.network import Network

TRAIN = ROOT / "tools" / "train.py"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_detection_data(tmp_path)
    (tmp_path / "x.cfg").write_text(DETECTOR)
    return tmp_path


def asked(folder: Path, *more: object) -> list[object]:
    defaults = ["--cfg", folder / "x.cfg", "--data", folder / "x.data", "--out", folder / "out"]
    return [*defaults, "--epochs", 2, "--workers", 0, *more]


def history(folder: Path, out: str = "out") -> list[dict[str, str]]:
    return list(csv.DictReader((folder / out / "history.csv").open()))


def test_a_training_leaves_a_model_for_darknet(command, folder):
    ended = command.run("train", *asked(folder))
    assert ended.code == 0, ended.err
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {
        "best.pt",
        "last.pt",
        "curves.png",
        "history.csv",
        "x.cfg",
        "x_best.weights",
        "x_last.weights",
    }
    assert (folder / "out" / "x.cfg").read_bytes() == (folder / "x.cfg").read_bytes()
    network = Network(Cfg.load(folder / "out" / "x.cfg"))
    assert load_weights(network, folder / "out" / "x_last.weights").seen == 2 * 3 * 4
    assert ended.out.count("epoch ") == 2
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(0 <= float(row["map"]) <= 1 for row in rows)
    assert [float(row["rate"]) for row in rows] == [0.004, 0.004]  # behind the burn-in


def test_the_rule_of_average_precision_can_be_chosen(command, folder):
    ended = command.run("train", *asked(folder, "--points", 11))
    assert ended.code == 0, ended.err
    options = ["--weights", folder / "out" / "last.pt", "--data", folder / "x.data", "--workers", 0]
    maps = {}
    for points in (0, 11):
        command.run("test", *options, "--points", points, "--json", folder / "x.json")
        maps[points] = json.loads((folder / "x.json").read_text())["map"]
    assert maps[0] != pytest.approx(maps[11], rel=1e-3)
    assert float(history(folder)[-1]["map"]) == pytest.approx(maps[11], rel=1e-5)


def test_a_finished_training_says_how_to_go_on(command, folder):
    command.run("train", *asked(folder, "--epochs", 1))
    ended = command.run("train", "--resume", folder / "out" / "last.pt")
    assert ended.code == 2
    assert "all 1 epochs are done: start another training with --weights" in ended.err


def test_a_classifier_is_trained_and_judged(command, tmp_path):
    make_classification_data(tmp_path)
    (tmp_path / "x.cfg").write_text(CLASSIFIER)
    ended = command.run("train", *asked(tmp_path, "--epochs", 8))
    assert ended.code == 0, ended.err
    assert float(history(tmp_path)[-1]["top1"]) == 1.0


def test_resume_has_the_rows_of_an_unbroken_training(command, folder):
    command.run("train", *asked(folder, "--out", folder / "whole"))
    whole = history(folder, "whole")
    # the same, broken off after the first epoch
    run = subprocess.run(
        [sys.executable, "-c", BREAKS_OFF, str(TRAIN), *map(str, asked(folder))],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 130, run.stderr
    assert "--resume" in run.stdout
    assert len(history(folder)) == 1
    ended = command.run("train", "--resume", folder / "out" / "last.pt")
    assert ended.code == 0, ended.err
    speed = "images_per_second"
    for row, expected in zip(history(folder), whole, strict=True):
        assert {**row, speed: ""} == {**expected, speed: ""}


# a Ctrl-C in the middle of the second epoch
BREAKS_OFF = """
import os, runpy, signal, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
from common import command
from yolo.training.trainer import Trainer
update = Trainer._update
def interrupted(self, *arguments):
    update(self, *arguments)
    if self.done == 4:
        os.kill(os.getpid(), signal.SIGINT)
Trainer._update = interrupted
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_what_can_not_change_on_resume_is_named(command, folder):
    command.run("train", *asked(folder))
    ended = command.run("train", "--resume", folder / "out" / "last.pt", "--batch", 8)
    assert (ended.code, ended.err) == (
        2,
        "error: --batch can't be changed when a training goes on\n",
    )


def test_a_full_disk_stops_nothing(command, folder, monkeypatch):
    """The checkpoint of the first epoch can't be written; that of the second one can."""
    from yolo.errors import DarknetError
    from yolo.training import run as module

    write, calls = module.write_files, []

    def fails_once(writers):
        calls.append(writers)
        if len(calls) == 1:
            raise DarknetError("last.pt: can't write: no space left on device")
        write(writers)

    monkeypatch.setattr(module, "write_files", fails_once)
    ended = command.run("train", *asked(folder))
    assert ended.code == 0, ended.err
    assert "not saved, will be tried again: last.pt: can't write: no space" in ended.err
    assert load_checkpoint(folder / "out" / "best.pt").training == {}
    assert len(load_checkpoint(folder / "out" / "last.pt").training["history"]) == 2


def test_a_disk_that_stays_full_is_an_error(command, folder, monkeypatch):
    from yolo.errors import DarknetError
    from yolo.training import run as module

    def fails(writers):
        raise DarknetError("last.pt: can't write: no space left on device")

    monkeypatch.setattr(module, "write_files", fails)
    ended = command.run("train", *asked(folder))
    assert ended.code == 2
    assert ended.err.endswith("error: last.pt: can't write: no space left on device\n")


def test_pretrained_takes_what_fits(command, folder):
    command.run("train", *asked(folder))
    one_class = DETECTOR.replace("filters=14", "filters=12").replace("classes=2", "classes=1")
    (folder / "one.cfg").write_text(one_class)
    (folder / "x.names").write_text("thing\n")
    (folder / "x.data").write_text("classes=1\ntrain=train.txt\nvalid=valid.txt\nnames=x.names\n")
    for labels in (folder / "labels").iterdir():
        labels.write_text("".join(f"0{line[1:]}\n" for line in labels.read_text().splitlines()))
    pretrained = ["--pretrained", folder / "x.cfg", folder / "out" / "x_last.weights"]
    ended = command.run(
        "train", *asked(folder, *pretrained, "--cfg", folder / "one.cfg", "--out", folder / "one")
    )
    assert ended.code == 0, ended.err
    assert "fresh: section 5" in ended.out


def test_sparse_training_says_how_far_it_is(command, folder):
    ended = command.run("train", *asked(folder, "-sr", "--s", 0.5, "--strategy", "shortcut"))
    assert ended.code == 0, ended.err
    assert ended.out.count("% of γ below 1 % of the largest; --percent 0.") == 2
    assert (folder / "out" / "gammas.png").exists()
    rows = history(folder)
    assert float(rows[1]["penalty"]) < float(rows[0]["penalty"])
    assert 0 <= float(rows[1]["percent"]) <= 1


def test_sparsity_touches_only_what_the_strategy_cuts(command, folder):
    """`normal` spares what the shortcut touches: all but the first section."""
    command.run("train", *asked(folder, "-sr", "--s", 20, "--strategy", "normal"))
    network, _ = load_model(None, str(folder / "out" / "last.pt"))
    dead = {i: int((t["scales"] == 0).sum()) for i, t in network.state().items() if "scales" in t}
    assert dead.pop(0) > 0
    assert set(dead.values()) == {0}


def test_a_teacher_adds_a_loss(command, folder):
    teacher = ["--teacher", folder / "x.cfg", "random:0"]
    ended = command.run("train", *asked(folder, *teacher, "--distill", "both"))
    assert ended.code == 0, ended.err
    assert float(history(folder)[-1]["teacher"]) > 0


def test_a_teacher_with_other_heads_is_an_error(command, folder):
    (folder / "t.cfg").write_text(DETECTOR.replace("anchors=8,8", "anchors=9,9"))
    ended = command.run(
        "train", *asked(folder, "--teacher", folder / "t.cfg", "random:0", "--distill", "both")
    )
    assert ended.code == 2
    assert "anchors" in ended.err
    assert ended.err.count("\n") == 1


def test_two_processes_learn_as_one(command, folder):
    """The same images, the same gradients, the same sparsity: the weights agree to rounding.

    Each has one of the two mini-batches of a step, so BN sees the same; but its running statistics
    are those of the first process.
    """
    (folder / "x.cfg").write_text(DETECTOR.replace("probability=.2", "probability=0"))
    more = ["-sr", "--strength", 0.5, "--eval-every", 0]
    alone = command.run("train", *asked(folder, *more, "--out", folder / "out1"))
    assert alone.code == 0, alone.err
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = map(str, [TRAIN, *asked(folder, *more, "--out", folder / "out2")])
    done = subprocess.run(
        [sys.executable, *together, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("epoch 1/2") == 1
    single, parallel = (load_checkpoint(folder / f"out{world}" / "last.pt") for world in (1, 2))
    for index, tensors in single.state.items():
        for name in tensors.keys() - {"mean", "variance"}:
            tensor, expected = parallel.state[index][name], tensors[name]
            torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-6)
    rows = [c.training["history"][-1] for c in (single, parallel)]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-4)


def test_two_processes_go_on_after_a_break(folder):
    """A signal that reaches one of them, in the middle of the second epoch."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    (folder / "breaks.py").write_text(
        BREAKS_OFF.replace("SIGINT)", "SIGTERM) if self.ranks.rank else 0")
    )
    together = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]

    def run(*arguments):
        return subprocess.run(
            [*together, *map(str, arguments)], capture_output=True, text=True, env=environment
        )

    more = ["--eval-every", 0]
    assert run(TRAIN, *asked(folder, *more, "--out", folder / "whole")).returncode == 0
    broken = run(folder / "breaks.py", TRAIN, *asked(folder, *more))
    assert "Stopped. Go on with" in broken.stdout, broken.stderr[-2000:]
    assert len(history(folder)) == 1
    again = run(TRAIN, "--resume", folder / "out" / "last.pt")
    assert again.returncode == 0, again.stderr[-2000:]
    speed = "images_per_second"
    for row, expected in zip(history(folder), history(folder, "whole"), strict=True):
        assert {**row, speed: ""} == {**expected, speed: ""}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_first(folder, number):
    arguments = map(str, [TRAIN, *asked(folder, "--epochs", 500, "--workers", 1)])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("epoch 1/500")
        time.sleep(0.1)
        os.killpg(child.pid, number)  # loader processes get it, too, as from a terminal
        out, err = child.communicate(timeout=60)
    assert child.returncode == 128 + number, err
    assert "Stopped. Go on with:" in out
    assert err == ""
    assert load_checkpoint(folder / "out" / "last.pt").training["trainer"]["epoch"] >= 1


def test_tensorboard_gets_the_figures(command, folder):
    pytest.importorskip("tensorboard")
    ended = command.run("train", *asked(folder, "--tensorboard", folder / "board"))
    assert ended.code == 0, ended.err
    (events,) = (folder / "board").iterdir()
    assert b"loss" in events.read_bytes()


def test_export_both_ways(command, folder):
    command.run("train", *asked(folder))
    pt, weights = folder / "out" / "last.pt", folder / "exported.weights"
    assert command.run("export", pt, weights).code == 0
    assert weights.read_bytes() == (folder / "out" / "x_last.weights").read_bytes()
    assert (folder / "exported.cfg").read_bytes() == (folder / "x.cfg").read_bytes()
    again = folder / "again.pt"
    assert command.run("export", weights, again, "--cfg", folder / "exported.cfg").code == 0
    original, reread = load_checkpoint(pt), load_checkpoint(again)
    assert original.header == reread.header
    for index, tensors in original.state.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, reread.state[index][name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--cfg and --data are needed"),
        (["--cfg", "nowhere.cfg", "--data", "x.data"], "no such file"),
        (["--cfg", "x.cfg", "--data", "nowhere.data"], "no such file"),
        (["--cfg", "x.cfg", "--data", "x.data", "--epochs", "0"], "expected at least 1"),
        (["--cfg", "x.cfg", "--data", "x.data", "--ema", "1"], "expected less than 1"),
        (["--cfg", "x.cfg", "--data", "x.data", "--ema", "nan"], "expected at least 0"),
        (["--cfg", "x.cfg", "--data", "x.data", "--s", "nan"], "expected at least 0"),
        (["--cfg", "x.cfg", "--data", "x.data", "--threads", "-1"], "expected at least 1"),
        (["--cfg", "x.cfg", "--data", "x.data", "--name", "a/b"], "a name without folders"),
        (["--cfg", "x.cfg", "--data", "x.data", "--out", "."], "is read here, so it isn't written"),
        (["--cfg", "x.cfg", "--data", "x.data", "--size", "12"], "expected a size like 416x416"),
        (["--cfg", "x.cfg", "--data", "x.data", "--policy", "odd"], "expected one of constant"),
        (["--cfg", "x.cfg", "--data", "x.data", "--device", "warp"], "--device warp"),
        (["--cfg", "x.cfg", "--data", "x.data", "--batch", "0"], "expected at least 1"),
        (["--resume", "x.cfg"], "is not a checkpoint"),
        (["--cfg", "x.cfg", "--data", "x.data", "--learning-rate", "-1"], "expected at least 0"),
        (["--cfg", "x.cfg", "--data", "x.data", "--learning-rate", "1e30"], "not finite in epoch"),
    ],
)
def test_wrong_input_is_one_line(command, folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    ended = command.run("train", *arguments, *(["--workers", 0] if arguments else []))
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert [path for path in sorted(folder.rglob("*")) if path not in before] == []


def test_a_second_training_does_not_write_over_the_first(command, folder):
    command.run("train", *asked(folder, "--epochs", 1))
    ended = command.run("train", *asked(folder))
    assert ended.code == 2
    assert "there is a training already: --resume it, or another --out" in ended.err


def test_a_file_that_really_can_not_grow(folder):
    """No file may be larger than 4 kB: as on a full disk, in the middle of writing."""
    code = (
        "import os, resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.argv = sys.argv[1:]\nsys.path.insert(0, os.path.dirname(sys.argv[0]))\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    arguments = [sys.executable, "-c", code, *map(str, [TRAIN, *asked(folder)])]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stdout.count("epoch ") == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "can't write: file too large" in done.stderr
    assert not (folder / "out" / "last.pt").exists()


def test_labels_that_are_elsewhere(command, folder):
    for path in (folder / "labels").iterdir():
        path.unlink()
    ended = command.run("train", *asked(folder))
    assert ended.code == 2
    assert "images has a label file; that of" in ended.err
    assert not (folder / "out").exists()


def test_boxes_that_had_to_be_corrected_are_counted(command, folder):
    (folder / "labels" / "train0.txt").write_text("0 .9 .5 .4 .2\n0 .5 .5 0 .2\n")
    (folder / "labels" / "train1.txt").unlink()
    ended = command.run("train", *asked(folder, "--epochs", 1))
    assert (
        "labels: boxes that overshot their image: 1, boxes without area: 1, "
        "images without a label file: 1" in ended.out
    )


def test_what_is_wrong_with_the_validation_is_reported_before_the_training(command, folder):
    (folder / "valid.txt").unlink()
    ended = command.run("train", *asked(folder))
    assert (ended.code, ended.out) == (2, "")
    assert "there is no valid.txt" in ended.err
