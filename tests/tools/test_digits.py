"""The embedded default: the sample data, the model trained on it, and what `make prune` does."""

import json

import pytest
from paths import DIGITS

from yolo.cfg import Cfg
from yolo.network import Network

CFG, WEIGHTS = DIGITS

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The whole validation part, and a few scenes to train on."""
    from yolo.datasets.formats.layout import Destination, write
    from yolo.datasets.formats.sample import sample

    top = tmp_path_factory.mktemp("sample")
    write(sample({"train": 16, "valid": 200}), Destination(top / "digits", top))
    return top / "digits.data"


def test_the_network_has_what_a_cut_must_cope_with():
    network = Network(Cfg.load(CFG))
    types = [section.type for section in network.cfg.layers]
    assert {"shortcut", "upsample", "route", "maxpool"} < set(types)
    assert types.count("yolo") == 2
    assert network.count_parameters() < 500_000
    assert WEIGHTS.stat().st_size < 2_000_000


def test_half_of_the_channels_can_go(command, sample, tmp_path):
    """mAP50 as the documentation says; the sample's training part is another than the real one."""
    report = tmp_path / "report.json"
    model = ["--cfg", CFG, "--weights", WEIGHTS, "--data", sample, "--out", tmp_path]
    cut = ["--strategy", "shortcut", "--percent", 0.5, "--runs", 0, "--json", report]
    ended = command.run("prune", *model, *cut)
    assert ended.code == 0, ended.err
    data = json.loads(report.read_text())
    assert data["before"]["map"] >= 0.9
    assert data["after"]["parameters"] < 0.4 * data["before"]["parameters"]
    assert data["proof"]["masked"] < 1e-5
    assert data["proof"]["opencv"] < 1e-4


def test_a_few_steps_of_training(command, sample, tmp_path):
    """From the model that is there, a step changes little; the whole way runs."""
    model = ["--cfg", CFG, "--weights", WEIGHTS, "--data", sample, "--out", tmp_path / "out"]
    more = ["--epochs", 1, "--batch", 8, "--workers", 0, "--lr", 1e-5, "--ema", 0]
    ended = command.run("train", *model, *more)
    assert ended.code == 0, ended.err
    score = ended.out.split("mAP ")[1].split()[0]
    assert float(score) >= 0.85
