"""The verdict on cuts without images: when it speaks, what it says, and that it is right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import CommandLine
from good_model import GOOD, here
from networks import build
from paths import DIGITS
from pruned_files import real
from random_cfg import sample
from specs import Trial, spec
from tiny_data import make_detection_data
from trained_models import NAMES

from pruning.run import verdict as judging
from pruning.run.measured import Measured, Score
from pruning.run.report import changes
from pruning.run.verdict import LIMIT, Verdict, lost_energy, verdict
from pruning.session import Inputs, Session
from yolo.cfg import Cfg
from yolo.models.randomize import randomize
from yolo.models.weights import save_weights
from yolo.network import Network

__all__ = ["here"]  # a fixture


def judged(cfg: str, weights: str, strategy: str, **amount: object) -> Verdict | None:
    """The verdict on a cut that isn't measured."""
    session = Session.open(Inputs(cfg, weights))
    cut = session.cut(spec(strategy, **amount))
    blank = Measured(session.cost, 0, {})
    return verdict(session, cut, blank, blank)


@pytest.mark.parametrize("strategy", ["normal", "shortcut"])
@pytest.mark.parametrize("name", NAMES)
def test_it_speaks_for_half_of_a_trained_model(name: str, strategy: str) -> None:
    """Of those that can be evaluated, at most 7 % of the mAP is left."""
    model = real(name)
    found = judged(model.cfg, model.weights, strategy, percent=0.5)
    assert found
    assert found.energy >= LIMIT
    assert found.text == (
        "This is likely to leave almost no mAP; the cut channels held "
        f"{found.energy:.0%} of the scores' energy. {judging.WAYS_OUT}"
    )


@pytest.mark.parametrize("strategy", ["normal", "shortcut"])
@pytest.mark.parametrize("amount", [{"percent": 0.5}, {"percent": 0.3}, {"target": "macs=0.5"}])
def test_it_says_nothing_of_a_sparse_model(strategy: str, amount: dict) -> None:
    """They leave 57 to 100 % of the mAP."""
    assert judged(*map(str, DIGITS), strategy, **amount) is None


def test_it_speaks_where_even_a_sparse_model_is_cut_too_far() -> None:
    """Nothing is left of the mAP."""
    found = judged(*map(str, DIGITS), "shortcut", percent=0.7)
    assert found
    assert found.energy == pytest.approx(0.199, abs=0.002)


def test_energy_by_hand() -> None:
    """A family of γ 3, 4, of which 3 goes, and one of γ 1, 1, 1, 1, of which nothing goes."""
    text = "[net]\nwidth=8\nheight=8\nchannels=3\n"
    block = "[convolutional]\nbatch_normalize=1\nfilters={}\nsize=1\nactivation=leaky\n"
    head = "[convolutional]\nfilters=12\nsize=1\nactivation=linear\n[yolo]\n"
    head += "mask=0,1\nanchors=1,2, 3,4\nclasses=1\nnum=2\n"
    found = build(text + block.format(2) + block.format(4) + head)
    found.layers[0].store(scales(found, 0, [3.0, 4.0]))
    found.layers[1].store(scales(found, 1, [1.0, 1.0, 1.0, 1.0]))
    session = Session(found)
    cut = session.cut(spec("shortcut", percent=0.5, only=(0,)))
    assert [change.index for change in changes(cut.graph, cut.compact, cut.fold)] == [0]
    energy = lost_energy(cut.graph, found.state(), cut.fold)
    assert energy == pytest.approx(9 / 25 / 2)


def scales(network: Network, section: int, values: list[float]) -> dict[str, torch.Tensor]:
    return {**network.state()[section], "scales": torch.tensor(values)}


def test_what_was_measured_counts_more() -> None:
    """A score that stays silences it, one that falls by more than half makes it speak."""
    session = Session.open(Inputs(*map(str, DIGITS)))
    far, near = (session.cut(spec("shortcut", percent=share)) for share in (0.7, 0.3))
    before = Measured(session.cost, 0, {}, Score("map", "mAP at IoU 0.5", 0.9))

    def after(value: float) -> Measured:
        return replace(before, score=Score("map", "mAP at IoU 0.5", value))

    assert verdict(session, far, before, after(0.46)) is None
    found = verdict(session, near, before, after(0.44))
    assert found
    what = "Too much is cut: mAP at IoU 0.5 falls from 0.900 to 0.440"
    assert found.text == f"{what}. {judging.WAYS_OUT}"  # energy is no reason here
    found = verdict(session, far, before, after(0.44))
    assert found
    assert found.text.startswith(f"{what}; the cut channels held 20% of the scores' energy. ")


def test_cuts_with_images_are_not_judged() -> None:
    session = Session.open(Inputs(*map(str, DIGITS)))
    cut, blank = session.cut(spec("shortcut", percent=0.7)), Measured(session.cost, 0, {})
    assert verdict(session, cut, blank, blank)
    session.images = torch.zeros(1, 3, 8, 8)
    assert verdict(session, cut, blank, blank) is None


def test_the_command_says_it_in_one_line(command: CommandLine, here: Path) -> None:
    """Printed, in the JSON, in both documents; for a dry run, too."""
    network = Network(Cfg.load("x.cfg"))
    randomize(network)
    for i in network.state():
        tensors = network.state()[i]
        if "scales" in tensors:
            network.layers[i].store({**tensors, "scales": torch.ones_like(tensors["scales"])})
    save_weights(network, "x.weights")
    words = ["--cfg", "x.cfg", "--weights", "x.weights", "--strategy", "shortcut", "--percent", 0.6]
    words += ["--verify", "torch", "--runs", 0]
    said = "This is likely to leave almost no mAP; the cut channels held "
    dry = command.run("prune", *words, "--dry-run")
    assert sum(line.startswith(said) for line in dry.out.splitlines()) == 1
    ended = command.run("prune", *words, "--out", "o", "--name", "y", "--report", "y.md")
    (line,) = (line for line in ended.out.splitlines() if line.startswith(said))
    data = json.loads(Path("o/y.json").read_text())["verdict"]
    assert data["text"] == line
    assert data["energy"] >= data["limit"] == LIMIT
    assert "> **Warning.** This is likely to leave almost no mAP" in Path("y.md").read_text()
    silent = command.run("prune", *words, "--out", "o", "--weights", "random")
    assert said not in silent.out
    assert "The weights are random" in silent.out
    make_detection_data(here)
    calibrated = command.run("prune", *words, "--out", "o", "--calibrate", "images")
    assert calibrated.code == 0, calibrated.err
    assert said not in calibrated.out


def test_a_network_that_cannot_be_cut_has_no_energy() -> None:
    trial = Trial(sample(GOOD.replace("filters=8", "filters=1")), percent=0.0)
    assert lost_energy(trial.graph, trial.found.state, trial.fold()) == 0.0
