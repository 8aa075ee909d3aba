"""A scan: what it measures, what strategies make of it, and that no point is measured twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cfgs import NET, conv, shortcut
from hypothesis import given
from hypothesis import strategies as st
from networks import build
from specs import spec
from tiny_data import CLASSIFIER, DETECTOR, make_classification_data

from pruning.calibration.stamps import stamps_key
from pruning.calibration.statistics import gather
from pruning.cut.folding import Folding
from pruning.cut.surgery import operate
from pruning.graph.channels import ChannelGraph
from pruning.measure.head_error import ERROR, HeadError, head_error
from pruning.measure.metric import Accuracy, validation_images
from pruning.registry import SENSITIVITY
from pruning.run.figures import sensitivities
from pruning.selection.importance import GroupScores, Model
from pruning.selection.ranking import slot_macs
from pruning.selection.schedule import Schedule
from pruning.selection.select import select
from pruning.selection.sensitivity import SHARES, Curve, Scan, marginal_losses, scan
from pruning.spec import Spec
from yolo.datasets import sources
from yolo.errors import PlanError
from yolo.figures import png
from yolo.network import Network

COUNT = 64  # calibration images
ASKED = spec("shortcut", 0.5)
NARROW = NET + conv(12) + conv(8) + conv(8) + shortcut(-2) + conv(3)


class CountingMetric:
    """Head errors on noise; `asked` counts them, and after `most` of them it is interrupted."""

    def __init__(self, network: Network, most: int = 10**6) -> None:
        self._metric, self.asked, self.most = HeadError(network), 0, most

    def scored(self, network: Network, progress: Callable[[str], object]) -> tuple[str, float]:
        if self.asked == self.most:
            raise KeyboardInterrupt
        self.asked += 1
        return self._metric.scored(network, progress)


class Trial:
    """A network that is scanned into a file."""

    def __init__(self, path: Path, text: str = DETECTOR, seed: int = 0, mode: str = "auto") -> None:
        self.path, self.network = path, build(text, seed)
        self.graph = ChannelGraph(self.network)
        self.folding = Folding(self.graph, self.network.state(), mode)
        self.metric = CountingMetric(self.network)

    def scan(self, asked: Spec = ASKED, images: str = "noise", **more: object) -> np.ndarray:
        return scan(self.path, self.folding, asked, self.metric, images, **more)  # type: ignore[arg-type]

    @property
    def curves(self) -> list[Curve]:
        scan = Scan.load(self.path)
        assert scan
        return list(scan.curves.values())

    def interrupted(self, most: int) -> None:
        self.metric = CountingMetric(self.network, most)
        with pytest.raises(KeyboardInterrupt):
            self.scan()
        self.metric = CountingMetric(self.network)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path / "scan.json")


# From losses to scores


@st.composite
def measured(draw: st.DrawFn) -> tuple[dict[int, float], int]:
    slots = draw(st.integers(1, 60))
    cuts = draw(st.lists(st.integers(1, slots), unique=True, max_size=5))
    return {cut: draw(st.floats(-1, 1)) for cut in cuts}, slots


@given(measured())
def test_what_goes_later_never_costs_less(measurement: tuple[dict[int, float], int]) -> None:
    losses, slots = measurement
    marginal = marginal_losses(losses, slots)
    assert marginal.shape == (slots,)
    assert (marginal >= 0).all()
    assert (np.diff(marginal) >= 0).all()
    for cut, loss in losses.items():
        assert marginal[:cut].sum() >= loss - 1e-9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(1, 6))
def test_losses_that_grow_faster_and_faster_stay_as_they_are(
    slopes: list[float], width: int
) -> None:
    wanted = np.repeat(np.sort(slopes), width)
    sums = np.cumsum(wanted)
    losses = {cut: float(sums[cut - 1]) for cut in range(width, len(wanted) + 1, width)}
    np.testing.assert_allclose(marginal_losses(losses, len(wanted)), wanted, atol=1e-12)
    longer = marginal_losses(losses, len(wanted) + 3)  # what no point tells goes at the last price
    np.testing.assert_allclose(longer[-4:], wanted[-1], atol=1e-12)


# What is measured


@pytest.mark.parametrize("mode", ["auto", "exact", "none"])
@pytest.mark.parametrize("text", [DETECTOR, NARROW])
def test_a_loss_is_the_head_error_of_the_cut_alone(tmp_path: Path, text: str, mode: str) -> None:
    trial = Trial(tmp_path / "scan.json", text, mode=mode)
    trial.scan()
    graph, folding = trial.graph, trial.folding
    noise = trial.metric._metric._images
    assert [curve.name for curve in trial.curves] == [f.name for f in graph.families]
    for curve, family in zip(trial.curves, graph.families, strict=True):
        assert set(curve.losses) == {round(share * curve.most) for share in SHARES} - {0}
        for cut, loss in curve.losses.items():
            percent = min(cut / curve.slots, 1 - 1e-12)
            asked = spec("shortcut", percent, only=family.sections[:1])
            plan = select(Model(graph, folding.state), asked, folding)
            fold = folding.fold(plan.alive(graph), plan.mean)
            smaller = Network.with_state(*operate(graph, folding.state, fold))
            assert loss == pytest.approx(head_error(trial.network, smaller, noise), rel=1e-6)


def test_images_tell_the_order_and_the_loss(tmp_path: Path) -> None:
    """The order of least squares in place of |γ|, and top-1 in place of the heads."""
    trial = Trial(tmp_path / "scan.json", CLASSIFIER)
    data = sources.load(make_classification_data(tmp_path, valid=10))
    metric = trial.metric = Accuracy(validation_images(data, trial.network.cfg, 0))  # type: ignore[assignment]
    random = torch.Generator().manual_seed(0)  # of other images two slots may be worth the same
    statistics = gather(trial.network, [torch.rand(4, 3, 32, 32, generator=random)])
    scores = trial.scan(statistics=statistics)
    scan = Scan.load(trial.path)
    assert scan
    original = metric(trial.network)  # type: ignore[operator]
    assert (scan.score_name, scan.score) == (original.score_name, original.score)
    schedule = Schedule(Model(trial.graph, trial.folding.state, statistics), ASKED, trial.folding)
    for curve, candidate in zip(scan.curves.values(), schedule.ranked.candidates, strict=True):
        assert (np.diff(scores[candidate.ranked], axis=1) < 0).all()
        counts = [c.family.slots for c in schedule.ranked.candidates]
        cut, loss = max(curve.losses.items())
        counts[schedule.ranked.candidates.index(candidate)] -= cut
        fold = schedule.cut(counts).fold
        smaller = Network.with_state(*operate(trial.graph, trial.folding.state, fold))
        assert loss == original.score - metric(smaller).score  # type: ignore[operator]


def test_slots_go_by_their_loss_for_each_mac(trial: Trial) -> None:
    scores = trial.scan()
    graph, state = trial.graph, trial.folding.state
    model = Model(graph, state, sensitivity=scores)
    schedule = Schedule(model, spec("shortcut", 0.0), trial.folding)
    candidates = schedule.ranked.candidates
    macs = slot_macs(graph, [c.family for c in candidates])
    prices = []
    for curve, candidate in zip(trial.curves, candidates, strict=True):
        first = candidate.family.groups[0, 0]
        assert (curve.macs, curve.most) == (macs[first], curve.slots - candidate.least)
        prices.append(marginal_losses(curve.losses, curve.slots) / curve.macs)
    taken = [0] * len(candidates)
    paid = []
    for n in schedule.order:
        paid.append(prices[n][taken[n]])
        taken[n] += 1
    assert (np.diff(paid) >= -1e-12).all()
    assert len(set(schedule.order.tolist())) > 1
    by_norm = Schedule(Model(graph, state), spec("shortcut", 0.0), trial.folding).ranked
    for candidate, other in zip(candidates, by_norm.candidates, strict=True):
        # in a family |γ| says who goes
        np.testing.assert_array_equal(candidate.ranked, other.ranked)


@pytest.mark.parametrize("how", ["first", "union", "sum"])
def test_it_is_an_importance_of_groups(trial: Trial, how: str) -> None:
    scores = trial.scan()
    model = Model(trial.graph, trial.folding.state, sensitivity=scores)
    assert model.best == SENSITIVITY
    group_scores = GroupScores.of(model, SENSITIVITY, how)
    np.testing.assert_array_equal(group_scores.groups, scores)
    for i, values in group_scores.channels.items():
        np.testing.assert_array_equal(values, scores[trial.graph.outputs[i]])
    with pytest.raises(PlanError, match="importance sensitivity: needs a scan: --scan"):
        GroupScores.of(replace(model, sensitivity=None), SENSITIVITY, how)


@pytest.mark.parametrize("strategy", ["normal", "regular", "shortcut", "slim"])
def test_every_strategy_takes_it(trial: Trial, strategy: str) -> None:
    asked = spec(strategy, 0.3)
    folding = trial.folding

    def scanned(asked: Spec) -> Model:
        return Model(trial.graph, folding.state, sensitivity=trial.scan(asked))

    plan = select(scanned(asked), asked, folding)
    assert plan.strategy == strategy
    target = spec("shortcut", target="macs=0.6")
    asked = trial.metric.asked
    plan = select(scanned(target), target, folding)
    assert plan.keep
    assert trial.metric.asked == asked or strategy in ("normal", "regular")


def test_a_network_without_numbers_is_refused(tmp_path: Path) -> None:
    trial = Trial(tmp_path / "scan.json")
    trial.network.state()[5]["weights"].fill_(torch.inf)
    with pytest.raises(PlanError, match="its outputs are not finite: nothing to scan"):
        trial.scan()
    assert not trial.path.exists()


# Its file


@pytest.mark.parametrize("most", [1, 2, 6])
def test_an_interrupted_scan_goes_on_to_the_same_file(trial: Trial, most: int) -> None:
    said: list[str] = []
    trial.scan(progress=said.append)
    original, asked = trial.path.read_bytes(), trial.metric.asked
    points = sum(len(curve.losses) for curve in trial.curves)
    assert asked == 1 + points
    assert said[0] == "scanning: the original"
    assert f"scanning, point {points} of {points}" in said
    trial.path.unlink()
    trial.interrupted(most)
    assert sum(len(curve.losses) for curve in trial.curves) == most - 1
    said.clear()
    first = trial.scan(progress=said.append)
    assert said[0] == f"scanning, point {most} of {points}"
    assert trial.metric.asked == asked - most  # the original isn't evaluated again
    assert trial.path.read_bytes() == original
    trial.metric = CountingMetric(trial.network, 0)  # what is complete is used as it is
    np.testing.assert_array_equal(trial.scan(), first)
    assert trial.path.read_bytes() == original


def test_an_interrupt_before_anything_leaves_nothing(trial: Trial) -> None:
    trial.interrupted(0)
    assert not trial.path.exists()


def test_where_nothing_can_be_cut_there_is_still_a_file(trial: Trial) -> None:
    scores = trial.scan(spec("normal", 0.0, spare=(0, 1, 2)))
    assert not scores.any()
    assert trial.curves == []
    with pytest.raises(PlanError, match="--only 4: has no filters to cut"):
        trial.scan(spec("normal", 0.0, only=(4,)))


def test_a_spec_with_more_families_measures_only_those(trial: Trial) -> None:
    trial.scan(spec("shortcut", 0.5, only=(1,)))
    assert [curve.name for curve in trial.curves] == [(1, 0)]
    first, asked = trial.curves[0], trial.metric.asked
    everything = Trial(trial.path.with_name("other.json"))
    everything.scan()
    trial.scan(spec("shortcut", target="macs=0.9", keep_min=3, only=(2,), importance=SENSITIVITY))
    assert trial.metric.asked == asked
    trial.scan()
    assert first in trial.curves
    assert trial.metric.asked == everything.metric.asked
    assert trial.path.read_bytes() == everything.path.read_bytes()
    trial.scan(spec("shortcut", 0.5, spare=(0,)))
    assert trial.path.read_bytes() == everything.path.read_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, "this model"),
        ({"images": "others"}, "these images"),
        ({"mode": "exact"}, "fold exact"),
        ({"asked": spec("slim", 0.5, "sum")}, "group sum"),
        ({"seen": True, "images": "others"}, "these images, importance least-squares"),
    ],
)
def test_a_scan_of_something_else_stays(trial: Trial, change: dict, says: str) -> None:
    trial.interrupted(3)
    before = trial.path.read_bytes()
    other = Trial(trial.path, seed=change.get("seed", 0), mode=change.get("mode", "auto"))
    changes = {name: change[name] for name in ("images", "asked") if name in change}
    if change.get("seen"):
        changes["statistics"] = gather(other.network, [torch.rand(2, 3, 32, 32)])
    message = f"scan.json: a scan, but not with {says}: name another file$"
    with pytest.raises(PlanError, match=message):
        other.scan(**changes)
    assert trial.path.read_bytes() == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "mine",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"schema": 2', '"schema": 9'),
        lambda text: text.replace('"slots": 8', '"slots": 9'),
        lambda text: text.replace('"cut": 2', '"cut": 0'),
        lambda text: text.replace('"cut": 2', '"cut": 99'),
        lambda text: text.replace('"loss": ', '"loss": -Infinity, "other": '),
        lambda text: text.replace('"sections": [', '"sections": [], "others": ['),
        lambda text: text.replace('"score": 0.0', '"score": null'),
        lambda text: '[{"format": 1}]',
    ],
)
def test_a_damaged_file_is_no_scan(trial: Trial, damage: Callable[[str], str]) -> None:
    trial.scan()
    text = trial.path.read_text()
    trial.path.write_text(damage(text))
    assert trial.path.read_text() != text
    with pytest.raises(PlanError, match=r"scan.json: is (not )?a (damaged )?sensitivity scan"):
        trial.scan()
    assert trial.path.read_text() == damage(text)


def test_images_have_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_classification_data(tmp_path)
    keys = [
        stamps_key(None, 0, None, COUNT),
        stamps_key("x.data", 0, None, COUNT),
        stamps_key("x.data", 11, None, COUNT),
        stamps_key(None, 0, "train", COUNT),
        stamps_key(None, 0, "train", 3),
        stamps_key("x.data", 0, "train", COUNT),
    ]
    assert len(set(keys)) == len(keys)
    assert stamps_key(None, 0, None, 3) == keys[0]
    (tmp_path / "train" / "0_red.png").unlink()
    assert stamps_key(None, 0, "train", COUNT) != keys[3]


# The picture


def test_the_picture_has_a_column_for_every_family(trial: Trial) -> None:
    trial.scan()
    scan = Scan.load(trial.path)
    assert scan
    figure = sensitivities(scan, "x")
    above, below = figure.axes[:2]
    (mesh,) = above.collections
    wanted = [[max(curve.at(share), 0) for curve in trial.curves] for share in SHARES]
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(len(SHARES), -1), wanted)
    heights = [bar.get_height() for bar in below.patches]  # type: ignore[attr-defined]
    assert heights == pytest.approx([1e-6 * curve.most * curve.macs for curve in trial.curves])
    labels = [label.get_text() for label in below.get_xticklabels()]
    assert labels == [str(curve.sections[0]) for curve in trial.curves]
    assert figure.axes[2].get_ylabel() == ERROR
    assert len(png(figure)) > 1000


@pytest.mark.parametrize("families", [0, 1, 90])
def test_there_is_a_picture_of_nothing_and_of_much(families: int) -> None:
    curves = [Curve((2 * n,), 0, 9, 8, 1000, {2: 0.1, 4: -0.1, 8: 0.5}) for n in range(families)]
    figure = sensitivities(Scan({}, "top-1", 0.5, {c.name: c for c in curves}), "x")
    assert len(figure.axes[1].get_xticks()) <= 45
    assert len(png(figure)) > 1000
