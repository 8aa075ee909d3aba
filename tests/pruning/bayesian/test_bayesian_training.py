"""Training of Bayesian networks: what the divergence adds to a step, breaks, and the commands."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from networks import build
from paths import ROOT
from tiny_data import BAYESIAN, make_classification_data
from tiny_training import fresh

from pruning.bayesian.training import BayesianTraining
from pruning.spec import Thresholds
from yolo.datasets import sources
from yolo.files import write_files
from yolo.layers.bayesian import bayesian_layers
from yolo.models.checkpoint import checkpoint_writer, load_checkpoint
from yolo.training.optimizer import SPREAD_RATE, make_optimizer
from yolo.training.run import Run
from yolo.training.settings import Settings
from yolo.training.trainer import Options, Trainer
from yolo.training.variational import Bound, Variational, measure_statistics

TRAIN = ROOT / "tools" / "train.py"
ZERO = Thresholds((0.0,))


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
    kl = variational.pull(epoch=0.0, scale=2.0)
    gradients = {p: p.grad for p in network.parameters() if p.grad is not None}
    parameters = [p for p in network.parameters() if p.requires_grad]
    expected = torch.autograd.grad(divergence(network), parameters, allow_unused=True)
    assert kl == pytest.approx(divergence(network).item())
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
    measure_statistics(network, batches)
    with torch.no_grad():
        made = torch.cat([layer.conv(x) * layer.scales()[:, None, None] for x in batches])
    torch.testing.assert_close(layer.bn.running_mean, made.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    variances = torch.stack([part.var((0, 2, 3)) for part in made.split(4)]).mean(0)
    torch.testing.assert_close(layer.bn.running_var, variances, rtol=1e-4, atol=1e-6)
    assert not any(module.training for module in network.modules())


def test_a_training_measures_the_statistics_of_its_average(data):
    """After an epoch the averaged network sees its own images with mean 0 and variance 1."""
    run = trainer(data, Bound(kl=0.01), epochs=1)
    next(run.run())
    network = run.ema.network
    before = [
        t.clone() for t in (network.layers[0].bn.running_mean, network.layers[0].bn.running_var)
    ]
    measure_statistics(network, [batch.images.float() / 255 for batch in run._loader(0, 0)])
    after = network.layers[0].bn.running_mean, network.layers[0].bn.running_var
    for statistic, expected in zip(before, after, strict=True):
        torch.testing.assert_close(statistic, expected)


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
    single, parallel = (load_checkpoint(tmp_path / f"out{n}" / "last.pt").state for n in (1, 2))
    started = fresh(BAYESIAN).state()
    for index, tensors in bayesian_layers(fresh(BAYESIAN).layers).items():
        for name in tensors.slots().keys() - {"mean", "variance"}:
            torch.testing.assert_close(
                parallel[index][name], single[index][name], rtol=1e-4, atol=1e-6
            )
        assert not torch.equal(single[index]["weights_logvar"], started[index]["weights_logvar"])


def test_a_look_changes_nothing():
    network = build(BAYESIAN)
    before = {i: {n: t.clone() for n, t in ts.items()} for i, ts in network.state().items()}
    observer = BayesianTraining(network, ZERO)
    row = observer.look(network)
    assert row["architecture"] >= 1
    assert row["maximum"] >= row["architecture"]
    assert f"{row['architecture']:.3g} times smaller" in observer.line()
    assert all(layer.dropped is None for layer in bayesian_layers(network.layers).values())
    state = network.state()
    assert all(torch.equal(state[i][n], t) for i, ts in before.items() for n, t in ts.items())


def test_the_history_has_the_learning_rate_and_the_compression_rates(data, tmp_path):
    run = trainer(data, epochs=1)
    observer = BayesianTraining(run.network, ZERO)
    assert observer.line() == ""
    (row,) = Run(run, tmp_path, "x", observer=observer).epochs()
    assert row["rate"] == 0.01
    assert row["architecture"] >= 1
    head = (tmp_path / "history.csv").read_text().splitlines()[0].split(",")
    assert {"rate", "architecture", "fast", "maximum"} < set(head)
