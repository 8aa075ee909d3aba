"""The training loop: what a step does, what is frozen, what a break changes (nothing)."""

import dataclasses
from pathlib import Path

import pytest
import torch
from cfgs import net
from tiny_data import BODY, CLASSIFIER, DETECTOR, make_classification_data, make_detection_data
from tiny_training import fresh, trainer

from yolo.datasets import sources
from yolo.datasets.data import Data
from yolo.errors import CfgError, TrainingError
from yolo.files import write_files
from yolo.models.checkpoint import Checkpoint, checkpoint_writer, load_checkpoint
from yolo.network import Network
from yolo.training.optimizer import make_optimizer, thaws, train_mode
from yolo.training.settings import Settings
from yolo.training.trainer import Options, Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return sources.load(make_detection_data(tmp_path_factory.mktemp("data")))


def same(a: Network, b: Network) -> bool:
    pairs = zip(a.state().values(), b.state().values(), strict=True)
    return all(torch.equal(x[n], y[n]) for x, y in pairs for n in x)


def timeless(rows):
    return [{n: v for n, v in row.items() if n != "images_per_second"} for row in rows]


def test_training_lowers_the_loss(data):
    rows = list(trainer(data, epochs=12).run())
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]


def test_a_classifier_learns(tmp_path):
    data = sources.load(make_classification_data(tmp_path))
    rows = list(trainer(data, CLASSIFIER, epochs=10).run())
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]


def test_a_seed_repeats_a_run(data):
    first, second = trainer(data), trainer(data)
    assert timeless(first.run()) == timeless(second.run())
    assert same(first.network, second.network)


@pytest.mark.parametrize("stop_at", [0, 1, 2, 3, 4, 5])
def test_a_resumed_run_has_the_losses_of_an_unbroken_one(data, tmp_path, stop_at):
    """Three steps an epoch: breaks at the start, inside and at the end of epochs."""
    whole = trainer(data)
    expected = timeless(whole.run())
    broken = trainer(data)

    def stop(step):
        broken.stop = broken.done == stop_at

    broken.stop = stop_at == 0
    rows = timeless(broken.run(stop))
    path = tmp_path / "last.pt"
    write_files([(path, checkpoint_writer(broken.checkpoint({"trainer": broken.state()})))])
    checkpoint = load_checkpoint(path)
    settings = Settings.of(checkpoint.cfg)
    again = Trainer(checkpoint.network(), data, settings.over(6), Options(2, workers=0, ema=0.9))
    again.restore(checkpoint, checkpoint.training["trainer"])
    assert again.done == stop_at
    rows += timeless(again.run())
    assert rows == expected
    assert same(again.network, whole.network)
    assert same(again.ema.network, whole.ema.network)


def test_other_data_can_not_be_resumed_with(data, tmp_path):
    old = trainer(data)
    list(old.run())
    other = trainer(sources.load(make_detection_data(tmp_path, train=20)))
    with pytest.raises(TrainingError, match="an epoch had 3 steps and has 5 now"):
        other.restore(Checkpoint(old.network.cfg, {}), old.state())


def test_mini_batches_add_up_to_the_step(data):
    """Without BN and dropout, a step doesn't depend on how it is cut."""
    text = DETECTOR.replace("batch_normalize=1", "").replace("probability=.2", "probability=0")
    runs = [trainer(data, text, subdivisions=n) for n in (1, 2, 4)]
    rows = [list(run.run()) for run in runs]
    for run, row in zip(runs[1:], rows[1:], strict=True):
        assert [r["loss"] for r in row] == pytest.approx([r["loss"] for r in rows[0]], rel=1e-4)
        for index, tensors in run.network.state().items():
            for name, tensor in tensors.items():
                expected = runs[0].network.state()[index][name]
                torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-6)


def test_the_first_step_is_rate_times_delta_over_batch(data):
    """Darknet: weights += learning rate / batch · Σ delta · input; nothing of it decays biases."""
    text = DETECTOR.replace("probability=.2", "probability=0")
    run = trainer(data, text, burn_in=0, learning_rate=1e-3, decay=0.5, subdivisions=1)
    before = {i: {n: t.clone() for n, t in ts.items()} for i, ts in run.network.state().items()}
    ((index, rule),) = run.heads.items()
    seen = []

    class Spy:
        def loss(self, x, targets, count):
            result = rule.loss(x, targets, count)
            seen.append(torch.autograd.grad(result.total, x, retain_graph=True)[0])
            return result

    run.heads = {index: Spy()}

    def stop(step):
        run.stop = True

    list(run.run(stop))
    last = run.network.layers[-2].section.index
    delta = -seen[0].sum((0, 2, 3))
    moved = run.network.state()[last]["biases"] - before[last]["biases"]
    torch.testing.assert_close(moved, 1e-3 / 4 * delta, rtol=1e-4, atol=1e-6)
    first = run.network.state()[0]["weights"] - before[0]["weights"]
    assert not torch.equal(first, torch.zeros_like(first))


@pytest.mark.parametrize(
    ("key", "frozen"),
    [
        ("stopbackward=1", {0: 99, 1: 99}),
        ("stopbackward=2", {0: 2, 1: 2}),
        ("dont_update=2", {1: 2}),
        ("burnin_update=1", {1: 2}),
        ("train_only_bn=1", {0: 99, 1: 99}),
    ],
)
def test_frozen_sections_learn_when_they_may(data, key, frozen):
    """The key stands in the second convolution; steps are counted from 0, the burn-in has two."""
    first, second, tail = DETECTOR.split("filters=8", 2)
    text = f"{first}filters=8{second}filters=8\n{key}{tail}"
    run = trainer(data, text, decay=0.1)
    before = {i: {n: t.clone() for n, t in ts.items()} for i, ts in run.network.state().items()}

    def look(step):
        for index, tensors in run.network.state().items():
            changed = {n for n, t in tensors.items() if not torch.equal(t, before[index][n])}
            if 3 * step.epoch + step.number < frozen.get(index, 0):
                assert not changed - {"mean", "variance"}
            else:
                assert changed >= tensors.keys() - {"mean", "variance"}

    assert len(list(run.run(look))) == 2


def test_steps_of_a_freeze_are_scaled_with_the_schedule():
    text = DETECTOR.replace("max_batches=6", "max_batches=60")
    network = fresh(text.replace("filters=14", "filters=14\ndont_update=20"))
    layer = network.layers[5]
    assert thaws(network, layer, Settings.of(network.cfg)) == 20
    assert thaws(network, layer, Settings.of(network.cfg).over(6)) == 2


def test_statistics_in_front_of_stopbackward_stay():
    network = fresh(DETECTOR.replace("[shortcut]", "[shortcut]\nstopbackward=1"))
    train_mode(network)
    assert [layer.training for layer in network.layers] == [False] * 3 + [True] * 4
    network = fresh(DETECTOR.replace("[shortcut]", "[shortcut]\nstopbackward=800"))
    train_mode(network)
    assert all(layer.training for layer in network.layers)


def test_nothing_left_to_train():
    network = fresh(DETECTOR.replace("[yolo]", "[yolo]\nstopbackward=1"))
    with pytest.raises(CfgError, match="nothing is left to train"):
        make_optimizer(network, Settings())


def test_a_network_without_a_trained_head(data):
    with pytest.raises(CfgError, match="is last, and neither head nor"):
        trainer(data, net(32, 32, batch=2) + BODY)


def test_adam_and_the_sections_own_rate():
    text = DETECTOR.replace("filters=14", "filters=14\nlearning_rate=.1")
    optimizer = make_optimizer(fresh(text), Settings(adam=True, decay=0.01))
    assert isinstance(optimizer, torch.optim.Adam)
    groups = {(g["scale"], g["weight_decay"]): len(g["params"]) for g in optimizer.param_groups}
    # weights decay; biases and scales don't; the last convolution has its own rate
    assert groups == {(1.0, 0.01): 3, (1.0, 0.0): 6, (0.1, 0.01): 1, (0.1, 0.0): 1}


def test_a_loss_that_is_not_finite_names_its_images(data):
    run = trainer(data)
    with torch.no_grad():
        run.network.layers[0].stored()["weights"][0] = float("inf")
    before = {i: {n: t.clone() for n, t in ts.items()} for i, ts in run.network.state().items()}
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, step 1;.*train\d\.png") as hit:
        list(run.run())
    assert str(hit.value).count(".png") == 2  # the mini-batch, not the step
    weights = run.network.state()[5]["weights"]
    assert torch.equal(weights, before[5]["weights"])


def test_the_average_follows_and_forgets_its_start(data):
    run = trainer(data, epochs=30, ema_alpha=0.5)
    list(run.run())
    for index, tensors in run.network.state().items():
        for name, tensor in tensors.items():
            average = run.ema.network.state()[index][name]
            assert (average - tensor).abs().max() <= 0.3 * tensor.abs().max() + 0.05


def test_seen_counts_on(data, tmp_path):
    run = trainer(data)
    list(run.run())
    assert run.checkpoint().header.seen == 2 * 3 * 4


class Shrinks:
    """A sparsity that only writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []

    def shrink(self, network: Network, size: float, progress: float) -> None:
        self.asked.append((size, progress))

    def value(self, network: Network) -> float:
        return 7.0


def test_sparsity_gets_the_rate_that_momentum_makes_of_it(data: Data, tmp_path: Path):
    network = fresh()
    settings = dataclasses.replace(Settings.of(network.cfg), burn_in=0)
    sparsity = Shrinks()
    run = Trainer(network, data, settings.over(6), Options(2, workers=0), sparsity=sparsity)
    rows = list(run.run())
    assert [size for size, _ in sparsity.asked] == pytest.approx([0.004 / (1 - 0.9)] * 6)
    assert [share for _, share in sparsity.asked] == [i / 6 for i in range(6)]
    assert rows[-1]["penalty"] == 7.0


def test_zeros_of_scales_are_zeros_in_the_average(data):
    run = trainer(data)
    with torch.no_grad():
        run.network.layers[0].stored()["scales"][3] = 0
    run.ema.update(run.network)
    assert run.ema.network.state()[0]["scales"][3] == 0
    assert (run.ema.network.state()[0]["scales"] != 0).sum() == 7


def test_numbers_that_stop_being_finite_end_the_training(data):
    run = trainer(data)

    def spoil(step):
        with torch.no_grad():
            run.ema.network.layers[1].stored()["scales"][0] = torch.nan

    with pytest.raises(TrainingError, match=r"after epoch 1: x.cfg:\d+: .* has numbers"):
        list(run.run(spoil))


def test_mixed_precision_learns_about_the_same(data):
    plain, mixed = trainer(data), trainer(data)
    mixed.options = dataclasses.replace(mixed.options, amp=True)
    for exact, rounded in zip(plain.run(), mixed.run(), strict=True):
        assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert not same(plain.network, mixed.network)
