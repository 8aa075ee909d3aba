"""prune.py with unlabeled images: what it takes, what it says, what it writes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_data import CLASSIFIER, DETECTOR, make_classification_data, make_detection_data

from pruning.calibration.images import calibration_images
from pruning.measure.head_error import batches
from pruning.proof.engines.opencv import OpenCV
from pruning.proof.verify import relative
from yolo.cfg import Cfg
from yolo.errors import DataError
from yolo.models.load import load_model
from yolo.models.randomize import noise_image
from yolo.network import Network


@pytest.fixture
def command(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("x.cfg").write_text(DETECTOR)
    make_detection_data(tmp_path / "shapes", train=16)
    return command


def prune(command, *options):
    defaults = ("--cfg", "x.cfg", "--weights", "random:3", "--out", "out", "--runs", 0)
    return command.run("prune", *defaults, "--strategy", "shortcut", *options)


def data_file(folder):
    (path,) = Path(folder).glob("*.data")
    return str(path)


def test_weights_are_solved_anew_and_run_in_opencv(command):
    options = ("--target", "macs=0.5", "--calibrate", data_file("shapes"))
    ended = prune(command, *options, "--verify", "torch,opencv", "--json", "r.json")
    assert ended.code == 0, ended.err
    recovery = json.loads(Path("r.json").read_text())["recovery"]
    assert (recovery["method"], recovery["kept"]) == ("reconstruct", True)
    assert (recovery["images"], recovery["held_out"]) == (14, 2)
    assert recovery["after"] < 0.8 * recovery["before"]
    assert f"{recovery['before']:.3f} to {recovery['after']:.3f}" in ended.out
    stem = "out/x-shortcut-macs0.5"
    network, _ = load_model(f"{stem}.cfg", f"{stem}.weights")
    x = noise_image(network)
    with torch.no_grad():
        expected = network(x, collect=network.head_inputs)
    arrays = OpenCV().run(network.cfg, network, x.numpy(), network.head_inputs)
    assert relative({i: torch.from_numpy(a) for i, a in arrays.items()}, expected) < 1e-4


def test_runs_are_repeatable(command):
    weights = []
    for out in ("one", "two"):
        ended = prune(command, "--calibrate", data_file("shapes"), "--verify", "none", "--out", out)
        assert ended.code == 0, ended.err
        weights.append(next(Path(out).glob("*.weights")).read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("method", ["none", "fold", "bn"])
def test_other_ways_to_recover(command, method):
    images = ("--calibrate", data_file("shapes"), "--importance", "taylor")
    ended = prune(command, *images, "--recover", method, "--verify", "torch", "--json", "r.json")
    assert ended.code == 0, ended.err
    report = json.loads(Path("r.json").read_text())
    assert report["fold"] == ("none" if method == "none" else "auto")
    assert ("recovery" in report) == (method == "bn")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--recover", "reconstruct"), "recover reconstruct: needs images (--calibrate)"),
        (("--importance", "taylor"), "importance taylor: needs images (--calibrate)"),
        (("--calibrate", "nowhere"), "nowhere: can't read the image"),
        (("--calibrate", "empty"), "empty: no pictures or videos in this folder"),
        (("--calibrate", "x.cfg"), "x.cfg: "),
        (("--calibrate", "shapes", "--calibration-images", "0"), "expected at least 1"),
    ],
)
def test_what_can_not_be_done(command, options, message):
    Path("empty").mkdir()
    ended = prune(command, *options)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("out").exists()


@pytest.mark.parametrize("count", [1, 5, 40])
def test_pictures_of_a_folder_are_evenly_spread(tmp_path, count):
    for number in range(10):
        picture = np.full((20, 30, 3), 20 * number, np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    network = Network(Cfg(DETECTOR.encode()))
    images = calibration_images(str(tmp_path), network, count)
    assert images.shape == (min(count, 10), 3, 32, 32)
    values = (images.amax((1, 2, 3)) * 255 / 20).round().int().tolist()
    assert values == {1: [0], 5: [0, 2, 4, 7, 9], 40: list(range(10))}[count]
    (tmp_path / "some.txt").write_text("3.png\n5.png\n")
    listed = calibration_images(str(tmp_path / "some.txt"), network, count)
    assert len(listed) == min(count, 2)


def test_classifiers_see_the_middle(tmp_path):
    data = make_classification_data(tmp_path, train=6)
    network = Network(Cfg(CLASSIFIER.encode()))
    images = calibration_images(str(data), network, 64)
    assert images.shape == (6, 3, 32, 32)
    assert 0 <= images.min() < images.max() <= 1


def test_a_video_is_no_picture(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="no pictures there"):
        calibration_images(str(tmp_path), Network(Cfg(DETECTOR.encode())), 4)


@pytest.mark.parametrize(("count", "parts"), [(1, 1), (7, 7), (64, 8)])
def test_batches_leave_some_to_hold_out(count, parts):
    assert len(batches(torch.zeros(count, 1, 4, 4))) == parts
