"""Training of Bayesian networks: what the divergence adds to a step, breaks, and the commands."""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import build
from paths import ROOT
from sklearn.datasets import load_digits
from tiny_data import CLASSIFIER, make_classification_data
from tiny_training import fresh

from pruning.bayesian.training import BayesianTraining
from pruning.calibration.images import batches, calibration_images
from pruning.selection import Wish
from pruning.session import Job, prune
from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.errors import PlanError
from yolo.files import write_files
from yolo.layers.bayesian import bayesian_layers
from yolo.models.checkpoint import checkpoint_writer, load_checkpoint
from yolo.models.load import load_model
from yolo.network import Network
from yolo.training.optimizer import SPREAD_RATE, make_optimizer
from yolo.training.run import Run
from yolo.training.settings import Settings
from yolo.training.trainer import Options, Trainer
from yolo.training.variational import Bound, Variational, settle

TRAIN = ROOT / "tools" / "train.py"
BAYESIAN = CLASSIFIER.replace("[convolutional]", "[bayesian_convolutional]\nclip_var=0.001")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sources.load(make_classification_data(tmp_path_factory.mktemp("data")))


def trainer(data, bound=None, text=BAYESIAN, epochs=2, **settings):
    network = fresh(text)
    asked = Settings(batch=4, learning_rate=0.01, **settings)
    return Trainer(
        network, data, asked, Options(epochs, workers=0, ema=0.9, bound=bound or Bound())
    )


def divergence(network):
    return sum(layer.kl() for layer in bayesian_layers(network.layers).values())


def test_the_divergence_is_pulled_at_once_a_step():
    """Its gradient is autograd's own; BN has none of it."""
    network = fresh(BAYESIAN)
    variational = Variational(network, Bound(kl=0.5), images=8)
    found = variational.pull(epoch=0.0, scale=2.0)
    gradients = {p: p.grad for p in network.parameters() if p.grad is not None}
    parameters = [p for p in network.parameters() if p.requires_grad]
    expected = torch.autograd.grad(divergence(network), parameters, allow_unused=True)
    assert found == pytest.approx(divergence(network).item())
    for parameter, gradient in zip(parameters, expected, strict=True):
        if gradient is None:
            assert parameter not in gradients
        else:
            torch.testing.assert_close(gradients[parameter], gradient)  # 0.5 · 2


def test_the_weight_is_one_over_the_images_and_comes_in_over_the_warm_up():
    network = fresh(BAYESIAN)
    sizes = []
    for epoch in (0.0, 1.0, 2.0, 4.0, 9.0):
        network.zero_grad()
        Variational(network, Bound(warmup=4.0), images=8).pull(epoch, 1.0)
        sizes.append(network.layers[0].weight_logvar.grad.norm().item())
    whole = 1 / 8
    alone = torch.autograd.grad(divergence(network), network.layers[0].weight_logvar)[0].norm()
    expected = [share * whole * alone.item() for share in (0, 0.25, 0.5, 1, 1)]
    assert sizes == pytest.approx(expected)


def test_a_step_has_the_divergence_once_however_many_mini_batches(data):
    """With the data's loss weighted by 0, a step is the divergence's alone."""
    kinds = [trainer(data, Bound(data=0.0, kl=0.01), subdivisions=n) for n in (1, 2, 4)]
    network = kinds[0].network
    before = network.state()[0]["weights_logvar"].clone()
    gradient = torch.autograd.grad(divergence(network), network.layers[0].weight_logvar)[0]
    for run in kinds:
        run._update(list(run._loader(0, 0))[: run.settings.subdivisions], 0.01)
        moved = run.network.state()[0]["weights_logvar"] - before
        expected = -0.01 * SPREAD_RATE * 0.01 * gradient
        torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-6)


def test_variances_are_clipped_after_every_step(data):
    run = trainer(data, Bound(kl=100.0), epochs=1)
    rows = list(run.run())
    assert rows[0]["kl"] > 0
    for layer in bayesian_layers(run.network.layers).values():
        assert layer.weight_logvar.max() <= np.log(0.001) + 1e-6


def test_spreads_learn_faster_and_weights_do_not_decay():
    network = fresh(BAYESIAN)
    optimizer = make_optimizer(network, Settings(decay=0.5))
    layer = network.layers[0]
    scale = {id(p): g["scale"] for g in optimizer.param_groups for p in g["params"]}
    assert scale[id(layer.conv.weight)] == 1
    assert scale[id(layer.weight_logvar)] == scale[id(layer.prior.z_mean)] == SPREAD_RATE
    assert all(group["weight_decay"] == 0 for group in optimizer.param_groups)


@pytest.mark.parametrize("stop_at", [1, 3, 4])
def test_a_resumed_run_draws_what_an_unbroken_one_does(data, tmp_path, stop_at):
    def timeless(rows):
        return [{n: v for n, v in row.items() if n != "images_per_second"} for row in rows]

    whole = trainer(data)
    expected = timeless(whole.run())
    broken = trainer(data)

    def stop(step):
        broken.stop = broken.done == stop_at

    rows = timeless(broken.run(stop))
    path = tmp_path / "last.pt"
    write_files([(path, checkpoint_writer(broken.checkpoint({"trainer": broken.state()})))])
    checkpoint = load_checkpoint(path)
    again = Trainer(checkpoint.network(), data, broken.settings, broken.options)
    again.restore(checkpoint, checkpoint.training["trainer"])
    rows += timeless(again.run())
    assert rows == expected


def test_statistics_are_those_of_the_means():
    """Not of what training draws, whose variance is larger by the weights' own."""
    network = fresh(BAYESIAN)
    layer = network.layers[0]
    layer.weight_logvar.data.fill_(2)
    batches = torch.rand(3, 4, 3, 32, 32).unbind()
    settle(network, batches)
    with torch.no_grad():
        made = torch.cat([layer.conv(x) * layer.scales()[:, None, None] for x in batches])
    torch.testing.assert_close(layer.bn.running_mean, made.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    variances = torch.stack([part.var((0, 2, 3)) for part in made.split(4)]).mean(0)
    torch.testing.assert_close(layer.bn.running_var, variances, rtol=1e-4, atol=1e-6)
    assert not any(module.training for module in network.modules())


def test_a_training_settles_its_average(data):
    """After an epoch the averaged network sees its own images with mean 0 and variance 1."""
    run = trainer(data, Bound(kl=0.01), epochs=1)
    next(run.run())
    network = run.ema.network
    before = [
        t.clone() for t in (network.layers[0].bn.running_mean, network.layers[0].bn.running_var)
    ]
    settle(network, [batch.images.float() / 255 for batch in run._loader(0, 0)])
    after = network.layers[0].bn.running_mean, network.layers[0].bn.running_var
    for found, expected in zip(before, after, strict=True):
        torch.testing.assert_close(found, expected)


def test_two_processes_count_the_divergence_once(command, tmp_path):
    """With the data's loss weighted by 0 nothing else moves the posteriors."""
    where = ["--data", make_classification_data(tmp_path), "--cfg", tmp_path / "x.cfg"]
    (tmp_path / "x.cfg").write_text(BAYESIAN)
    options = ["--data-weight", 0, "--kl-weight", 0.01, "--batch", 4, "--subdivisions", 2]
    options += ["--epochs", 2, "--eval-every", 0, "--workers", 0]
    alone = command.run("train", *where, *options, "--out", tmp_path / "out1")
    assert alone.code == 0, alone.err
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [
            sys.executable,
            *map(str, [*together, TRAIN, *where, *options, "--out", tmp_path / "out2"]),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = (load_checkpoint(tmp_path / f"out{n}" / "last.pt").state for n in (1, 2))
    started = fresh(BAYESIAN).state()
    for index, tensors in bayesian_layers(fresh(BAYESIAN).layers).items():
        for name in tensors.slots().keys() - {"mean", "variance"}:
            torch.testing.assert_close(two[index][name], one[index][name], rtol=1e-4, atol=1e-6)
        assert not torch.equal(one[index]["weights_logvar"], started[index]["weights_logvar"])


def test_a_look_changes_nothing():
    network = build(BAYESIAN)
    before = {i: {n: t.clone() for n, t in ts.items()} for i, ts in network.state().items()}
    observer = BayesianTraining(network, "0")
    row = observer.look(network)
    assert row["architecture"] >= 1
    assert row["maximum"] >= row["architecture"]
    assert f"{row['architecture']:.3g} times smaller" in observer.line()
    assert all(layer.dropped is None for layer in bayesian_layers(network.layers).values())
    state = network.state()
    assert all(torch.equal(state[i][n], t) for i, ts in before.items() for n, t in ts.items())


def test_the_history_has_the_learning_rate_and_the_compression_rates(data, tmp_path):
    run = trainer(data, epochs=1)
    observer = BayesianTraining(run.network, "0")
    assert observer.line() == ""
    (row,) = Run(run, tmp_path, "x", observer=observer).epochs()
    assert row["rate"] == 0.01
    assert row["architecture"] >= 1
    head = (tmp_path / "history.csv").read_text().splitlines()[0].split(",")
    assert {"rate", "architecture", "fast", "maximum"} < set(head)


NET = """[net]
batch=50
width=8
height=8
channels=1
min_crop=8
max_crop=8
flip=0
adam=1
learning_rate=0.005
"""
LENET = f"""{NET}
[convolutional]
filters=16
size=3
pad=1
batch_normalize=1
activation=relu

[maxpool]
size=2
stride=2

[connected]
output=40
activation=relu

[connected]
output=10
activation=linear

[softmax]
"""


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


def test_the_whole_way_in_a_minute(command, digits):
    """Convert, train, cut at the gaps, prove, round: accuracy stays, two piles are found."""
    made = command.run("convert", "bayesian", digits / "x.cfg", digits / "b.cfg")
    assert made.out.endswith("with 3 Bayesian sections\n")
    where = ["--data", digits / "x.data"]
    out = digits / "out"
    options = ["--epochs", 16, "--ema", 0.97, "--workers", 0, "--eval-every", 16, "--out", out]
    ended = command.run("train", "--cfg", digits / "b.cfg", *where, *options)
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
    assert report["bayesian"]["reduced"]["top-1"] > 0.9
    assert report["bayesian"]["masked"] < 1e-5
    assert report["proof"]["masked_vs_compact"] < 1e-5
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
    assert "recover bn: bayesian cuts what carries nothing" in wrong.err


def test_wrong_thresholds_are_one_line(command, tmp_path):
    network = build(NET + "[bayesian_connected]\noutput=4\n" * 2)
    write_files([(tmp_path / "x.pt", checkpoint_writer(checkpoint_of(network)))])
    asked = ["--weights", tmp_path / "x.pt", "--strategy", "bayesian", "--out", tmp_path / "out"]
    ended = command.run("prune", *asked, "--thresholds=-3,-4,-5")
    assert (ended.code, ended.out) == (2, "")
    assert "expected one for all or 2, not 3" in ended.err
    assert "0 bayesian_connected, 1 bayesian_connected" in ended.err
    ended = command.run("prune", *asked, "--thresholds=low")
    assert "'low' is no number" in ended.err
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
    assert "reduced precision is for strategy bayesian" in ended.err


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        ("bayesian", ["--percent", 0.3], "--percent 0.3: the strategy bayesian has no use for it"),
        ("bayesian", ["--percent", 0], "--percent 0"),
        ("bayesian", ["--group", "first"], "--group first"),
        ("bayesian", ["--round", 8], "--round 8"),
        ("bayesian", ["--only", 1], "--only 1: can't be cut"),
        ("bayesian", ["--spare", 2], "--spare 2: sections are numbered from 0 to 1"),
        ("normal", ["--thresholds", "auto"], "--thresholds auto: the strategy normal has no use"),
        ("normal", ["--reduced"], "reduced precision is for strategy bayesian"),
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
    ("wish", "more"),
    [
        (Wish("bayesian", 0.3), {}),
        (Wish("bayesian", 0.0, group="max"), {}),
        (Wish("bayesian", 0.0, rounding=8), {}),
        (Wish("normal", 0.3), {"thresholds": "auto"}),
    ],
)
def test_jobs_refuse_it_too(tmp_path, wish, more):
    network = build(NET + "[bayesian_connected]\noutput=4\n" * 2)
    write_files([(tmp_path / "x.pt", checkpoint_writer(checkpoint_of(network)))])
    with pytest.raises(PlanError, match="thresholds"):
        prune(Job(None, str(tmp_path / "x.pt"), wish, runs=0, verify=(), **more))


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
