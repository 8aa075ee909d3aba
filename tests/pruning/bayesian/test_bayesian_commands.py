"""Bayesian training and cuts by the commands, on digits."""

import json
import struct

import numpy as np
import pytest
import torch
from cfgs import connected, conv, maxpool, net
from networks import build
from sklearn.datasets import load_digits
from tiny_data import BAYESIAN, make_classification_data

from pruning.calibration.images import calibration_images
from pruning.measure.head_error import batches
from pruning.spec import Limits, Percent, Ranking, Spec, Thresholds
from yolo.cfg import Cfg
from yolo.errors import PlanError
from yolo.files import write_files
from yolo.layers.bayesian import bayesian_layers
from yolo.models.checkpoint import checkpoint_writer
from yolo.models.initialize import initialize
from yolo.models.load import load_model
from yolo.network import Network

NET = net(8, 8, 1, batch=50, min_crop=8, max_crop=8, flip=0, adam=1, learning_rate=0.005)
LENET = NET + conv(16, activation="relu") + maxpool() + connected(40, activation="relu")
LENET += connected(10) + "[softmax]\n"


@pytest.fixture
def digits(tmp_path):
    """scikit-learn's digits as idx files: 1,500 to train on, 297 to validate."""
    digits = load_digits()
    images, labels = (digits.images * 255 / 16).astype(np.uint8), digits.target.astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    for part, which in (("train", order[:1500]), ("t10k", order[1500:])):
        for kind, array in (("images-idx3", images[which]), ("labels-idx1", labels[which])):
            head = struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape)
            (tmp_path / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    lines = "classes=10\ntrain=train-images-idx3-ubyte\nvalid=t10k-images-idx3-ubyte\n"
    (tmp_path / "x.data").write_text(lines)
    (tmp_path / "x.cfg").write_text(LENET)
    return tmp_path


NOISE = 6  # filters


def begin_with_noise(cfg, path, filters):
    """Fresh weights, so many filters of section 0 where a long training leaves superfluous ones.

    In a short one it is chance how far the posteriors of filters drift apart.
    """
    network = Network(Cfg.load(cfg))
    initialize(network)
    prior = network.layers[0].prior
    prior.z_logvar.data[:filters] = 6 + 2 * prior.z_mean.data[:filters].abs().log()
    write_files([(path, checkpoint_writer(checkpoint_of(network)))])


def test_the_whole_way_in_a_minute(command, digits):
    """Convert, train, cut at the gaps, prove, round: accuracy stays, two piles are found."""
    made = command.run("convert", "bayesian", digits / "x.cfg", digits / "b.cfg")
    assert made.out.endswith("with 3 Bayesian sections\n")
    begin_with_noise(digits / "b.cfg", digits / "b.pt", NOISE)
    where = ["--data", digits / "x.data"]
    out = digits / "out"
    options = ["--epochs", 10, "--ema", 0.97, "--workers", 0, "--eval-every", 10, "--out", out]
    begun = ["--cfg", digits / "b.cfg", "--weights", digits / "b.pt"]
    ended = command.run("train", *begun, *where, *options)
    assert ended.code == 0, ended.err
    assert "KL" in ended.out
    assert "times smaller" in ended.out
    assert {path.name for path in out.iterdir()} == {
        "b.cfg",
        "best.pt",
        "last.pt",
        "curves.png",
        "groups.png",
        "history.csv",
    }
    options = ["--out", digits / "cut", "--name", "c", "--figures", digits / "f", "--runs", 0]
    ended = command.run(
        "prune",
        "--weights",
        out / "last.pt",
        "--strategy",
        "bayesian",
        "--thresholds=auto,0,0",
        *where,
        *options,
    )
    assert ended.code == 0, ended.err
    assert "between two piles" in ended.out
    assert {path.name for path in (digits / "f").iterdir()} == {
        "c-channels.png",
        "c-groups.png",
        "c-groups-0.png",
        "c-groups-2.png",
        "c-groups-3.png",
    }
    original, _ = load_model(None, str(out / "last.pt"))
    noise, others = np.split(original.layers[0].log_alpha().detach().numpy(), [NOISE])
    assert noise.min() > 0 > np.median(others)
    smaller, _ = load_model(str(digits / "cut" / "c.cfg"), str(digits / "cut" / "c.weights"))
    assert {s.type for s in smaller.cfg.layers} == {
        "convolutional",
        "maxpool",
        "connected",
        "softmax",
    }
    assert 2 * smaller.count_parameters() < original.plain().count_parameters()
    cut = digits / "cut"
    model = ["--cfg", cut / "c.cfg", "--weights", cut / "c.weights"]
    ended = command.run("test", *model, *where, "--json", digits / "t.json")
    assert ended.code == 0, ended.err
    assert json.loads((digits / "t.json").read_text())["top1"] > 0.9
    report = json.loads((digits / "cut" / "c.json").read_text())
    first = report["bayesian"]["groups"][0]
    assert np.median(others) < first["threshold"] < noise.min()
    assert first["after"] == (others < first["threshold"]).sum()
    assert report["bayesian"]["reduced"]["top1"] > 0.9
    assert report["proof"]["posterior"] < 1e-5
    assert report["proof"]["masked"] < 1e-5
    assert report["proof"]["opencv"] < 1e-4
    rates = report["bayesian"]["rates"]["weights"]
    assert 2 < rates["architecture"] < rates["fast"] < rates["maximum"]


def test_rounded_weights_want_statistics_of_their_own(command, tmp_path):
    """BN of what is written has the moments of what its rounded weights give on these images."""
    data = make_classification_data(tmp_path)
    network = build(BAYESIAN)
    for layer in bayesian_layers(network.layers).values():
        layer.weight_logvar.data.fill_(-6)  # 3 bits behind the point are left
    write_files([(tmp_path / "b.pt", checkpoint_writer(checkpoint_of(network)))])
    asked = ["--weights", tmp_path / "b.pt", "--strategy", "bayesian", "--thresholds", "inf"]
    written = ["--out", tmp_path, "--name", "r", "--runs", 0, "--reduced"]
    ended = command.run("prune", *asked, *written, "--verify", "none", "--calibrate", data)
    assert ended.code == 0, ended.err
    small, _ = load_model(str(tmp_path / "r.cfg"), str(tmp_path / "r.weights"))
    first = small.layers[0]
    with torch.no_grad():
        x = calibration_images(str(data), small, 64)
        parts = [first.conv(part).transpose(0, 1).flatten(1) for part in batches(x)]
    y, spread = torch.cat(parts, 1), torch.stack([part.var(1) for part in parts]).mean(0)
    stored = first.stored()
    torch.testing.assert_close(stored["mean"], y.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stored["variance"], spread, rtol=1e-4, atol=1e-6)
    assert torch.equal(stored["weights"] * 2**12, (stored["weights"] * 2**12).round())
    wrong = command.run("prune", *asked, *written, "--calibrate", data, "--recover", "bn")
    assert wrong.code == 2
    assert "recover bn can't be combined with bayesian: what it cuts carries nothing" in wrong.err


def test_wrong_thresholds_are_one_line(command, tmp_path):
    network = build(NET + "[bayesian_connected]\noutput=4\n" * 2)
    write_files([(tmp_path / "x.pt", checkpoint_writer(checkpoint_of(network)))])
    asked = ["--weights", tmp_path / "x.pt", "--strategy", "bayesian", "--out", tmp_path / "out"]
    ended = command.run("prune", *asked, "--thresholds=-3,-4,-5")
    assert (ended.code, ended.out) == (2, "")
    assert "expected one for all or 2, not 3" in ended.err
    assert "0 bayesian_connected, 1 bayesian_connected" in ended.err
    ended = command.run("prune", *asked, "--thresholds=low")
    assert "thresholds: 'low': expected auto, a number or inf" in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def checkpoint_of(network):
    from yolo.models.checkpoint import Checkpoint

    return Checkpoint(network.cfg, network.state())


def test_a_plain_model_has_no_thresholds(command, tmp_path):
    (tmp_path / "x.cfg").write_text(LENET)
    asked = ["--cfg", tmp_path / "x.cfg", "--weights", "random", "--out", tmp_path / "out"]
    ended = command.run("prune", *asked, "--strategy", "bayesian")
    assert ended.code == 2
    assert "has no Bayesian section; tools/convert.py bayesian makes them" in ended.err
    ended = command.run("prune", *asked, "--reduced")
    assert ended.code == 2
    assert "--reduced has no effect with --strategy normal: leave it out" in ended.err


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("bayesian", ["--percent", 0.3], "--percent has no effect with --strategy bayesian"),
        ("bayesian", ["--percent", 0], "--percent has no effect"),
        ("bayesian", ["--group", "first"], "--group has no effect with --strategy bayesian"),
        ("bayesian", ["--round", 8], "--round has no effect with --strategy bayesian"),
        ("bayesian", ["--only", 1], "--only 1: can't be cut"),
        ("bayesian", ["--spare", 2], "--spare 2: sections are numbered from 0 to 1"),
        ("normal", ["--thresholds", "auto"], "--thresholds has no effect with --strategy normal"),
        ("normal", ["--reduced"], "--reduced has no effect with --strategy normal"),
    ],
)
def test_what_a_strategy_has_no_use_for(command, tmp_path, strategy, options, message):
    network = build(NET + "[bayesian_connected]\noutput=4\n" * 2)
    write_files([(tmp_path / "x.pt", checkpoint_writer(checkpoint_of(network)))])
    asked = ["--weights", tmp_path / "x.pt", "--strategy", strategy, "--out", tmp_path / "out"]
    ended = command.run("prune", *asked, *options)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("strategy", "amount", "more", "message"),
    [
        ("bayesian", Percent(0.3), {}, "bayesian doesn't take percent: use --thresholds auto"),
        ("bayesian", Thresholds(), {"ranking": Ranking(group="max")}, "ranks no channels"),
        (
            "bayesian",
            Thresholds(),
            {"limits": Limits(round_to=8)},
            "round-to has no effect with bayesian",
        ),
        (
            "bayesian",
            Thresholds(),
            {"limits": Limits(layer_keep=0.1)},
            "layer-keep has no effect with bayesian",
        ),
        ("normal", Thresholds(), {}, "normal doesn't take thresholds: use --percent 0.5"),
    ],
)
def test_specs_refuse_it_too(strategy, amount, more, message):
    with pytest.raises(PlanError, match=message):
        Spec(strategy, amount, **more)


def test_a_cut_keeps_what_is_asked_for(command, tmp_path):
    network = build(NET + "".join(f"[bayesian_connected]\noutput={n}\n" for n in (8, 8, 4)))
    write_files([(tmp_path / "x.pt", checkpoint_writer(checkpoint_of(network)))])
    asked = ["--weights", tmp_path / "x.pt", "--strategy", "bayesian", "--thresholds=-99"]
    counts = {}
    for option, value in (("--keep-min", 3), ("--spare", 0), ("--only", 0), ("--keep-min", 1)):
        out = ["--out", tmp_path / "out", "--name", "c", "--runs", 0, "--verify", "torch"]
        ended = command.run("prune", *asked, *out, option, value)
        assert ended.code == 0, ended.err
        layers = Cfg.load(tmp_path / "out" / "c.cfg").layers
        counts[option, value] = [section.integer("output") for section in layers]
    assert counts == {
        ("--keep-min", 3): [3, 3, 4],
        ("--spare", 0): [8, 1, 4],
        ("--only", 0): [1, 8, 4],
        ("--keep-min", 1): [1, 1, 4],
    }


def test_other_strategies_cut_the_means(command, tmp_path):
    network = build(NET + "[bayesian_connected]\noutput=8\n[bayesian_connected]\noutput=4\n")
    write_files([(tmp_path / "x.pt", checkpoint_writer(checkpoint_of(network)))])
    asked = ["--weights", tmp_path / "x.pt", "--out", tmp_path / "out", "--runs", 0]
    ended = command.run("prune", *asked, "--percent", 0.5, "--name", "c")
    assert ended.code == 0, ended.err
    cfg = Cfg.load(tmp_path / "out" / "c.cfg")
    assert [s.text("output") for s in cfg.layers] == ["4", "4"]
    assert Network(cfg).plain().cfg is cfg


def test_export_says_what_to_do_with_an_uncut_model(command, tmp_path):
    network = build(NET + "[bayesian_connected]\noutput=8\n")
    write_files([(tmp_path / "x.pt", checkpoint_writer(checkpoint_of(network)))])
    ended = command.run("export", tmp_path / "x.pt", tmp_path / "x.weights")
    assert ended.code == 2
    assert "cut it with tools/prune.py --strategy bayesian" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_sparsity_is_for_plain_models(command, digits):
    (digits / "b.cfg").write_text(LENET.replace("[connected]", "[bayesian_connected]"))
    asked = ["--cfg", digits / "b.cfg", "--data", digits / "x.data", "--out", digits / "out"]
    ended = command.run("train", *asked, "--epochs", 1, "-sr")
    assert ended.code == 2
    assert "-sr is for plain models" in ended.err
