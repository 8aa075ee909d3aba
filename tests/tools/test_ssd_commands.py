"""An SSD from data to Darknet's files by the commands: train, sparsify, prune, evaluate, detect."""

import json

import pytest
from cfgs import conv, net, plain, route, shortcut
from tiny_data import make_detection_data

from yolo.cfg import Cfg
from yolo.models.load import load_model

# two maps, of which the first one is normalised
HEADS = route(3) + "[l2norm]\nscale=10\n" + plain(16, 3) + route(-2) + plain(12, 3)
HEADS += route(4) + plain(16, 3) + route(4) + plain(12, 3)
TRAINING = {
    "batch": 4,
    "image_mean": 128,
    "image_scale": 0.02,
    "momentum": 0.9,
    "learning_rate": 0.02,
    "burn_in": 5,
    "policy": "poly",
    "power": 1,
    "max_batches": 40,
    "hue": ".05",
    "saturation": 1.2,
    "exposure": 1.2,
}
SSD = (
    net(32, 32, **TRAINING)
    + conv(16, stride=2, activation="relu") * 2
    + conv(16, activation="relu")
    + shortcut(-2)
    + conv(24, stride=2, activation="relu")
    + HEADS
    + "[ssd]\nclasses=2\nloc=7,11\nconf=9,13\nmin_sizes=8,16\nmax_sizes=16,28\naspect_ratios=2\n"
    + "expand=1\ncrops=.5,.9\n"
)


@pytest.fixture
def folder(tmp_path):
    make_detection_data(tmp_path, train=40, valid=10)
    (tmp_path / "x.cfg").write_text(SSD)
    return tmp_path


def train(command, folder, out, *more):
    (data,) = folder.glob("*.data")
    options = ["--data", data, "--epochs", 8, "--workers", 0, "--ema", 0.9, "--eval-every", 8]
    ended = command.run("train", *options, "--out", folder / out, *more)
    assert ended.code == 0, ended.err
    return ended


def prune(command, folder, *arguments, proofs="torch,opencv"):
    (data,) = folder.glob("*.data")
    out = ["--out", folder / "cut", "--name", "c", "--data", data, "--runs", 0]
    ended = command.run("prune", *arguments, *out, "--verify", proofs)
    assert ended.code == 0, ended.err
    report = json.loads((folder / "cut" / "c.json").read_text())
    assert report["proof"]["masked"] < 1e-5
    assert report["proof"]["opencv"] < 1e-4
    return report


def test_the_whole_way(command, folder):
    """Both maps learn, a sparse training's cut keeps most of it, OpenCV finds the same boxes."""
    ended = train(command, folder, "sparse", "--cfg", folder / "x.cfg", "-sr", "--s", 0.02)
    assert "box" in ended.out
    weights = folder / "sparse" / "x_last.weights"
    model = ["--cfg", folder / "x.cfg", "--weights", weights]
    for strategy in ("regular", "shortcut"):
        report = prune(command, folder, *model, "--strategy", strategy, "--percent", 0.3)
        assert report["after"]["parameters"] < 0.85 * report["before"]["parameters"]
        assert report["before"]["map"] > 0.3
    cut = ["--cfg", folder / "cut" / "c.cfg", "--weights", folder / "cut" / "c.weights"]
    kinds = {section.type for section in Cfg.load(folder / "cut" / "c.cfg").layers}
    assert kinds >= {"ssd", "l2norm"}
    train(command, folder, "tuned", *cut, "--lr", 0.005)
    (data,) = folder.glob("*.data")
    pictures = [str(path) for path in sorted((folder / "images").glob("valid*"))]
    detections = []
    for engine in ("torch", "opencv"):
        options = ["--data", data, "--engine", engine, "--thresh", 0.3, "--out", folder / engine]
        ended = command.run(
            "detect", *pictures, *cut, *options, "--json", folder / f"{engine}.json"
        )
        assert ended.code == 0, ended.err
        detections.append(json.loads((folder / f"{engine}.json").read_text()))
    names = [[[o["class"] for o in picture["objects"]] for picture in run] for run in detections]
    assert names[0] == names[1]
    assert any(names[0])


def test_the_bayesian_way(command, folder):
    made = command.run("convert", "bayesian", folder / "x.cfg", folder / "b.cfg")
    assert made.out.endswith("with 4 Bayesian sections\n")
    train(
        command, folder, "b", "--cfg", folder / "b.cfg", "--kl-weight", 0.001, "--optimizer", "adam"
    )
    asked = ["--weights", folder / "b" / "last.pt", "--strategy", "bayesian", "--thresholds=0"]
    report = prune(command, folder, *asked)
    assert report["proof"]["posterior"] < 1e-5
    smaller, _ = load_model(str(folder / "cut" / "c.cfg"), str(folder / "cut" / "c.weights"))
    assert {"ssd", "l2norm", "convolutional"} <= {s.type for s in smaller.cfg.layers}
    assert not any(layer.plain_type for layer in smaller.layers)
