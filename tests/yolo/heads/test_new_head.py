"""A head of a new type, defined here: nothing else has to know of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cfgs import NET, plain
from networks import build, random_input
from torch import Tensor

from pruning.graph.channels import ChannelGraph
from yolo.cfg import Cfg, Section
from yolo.detections import box_classes, detect, gives_boxes, suppression
from yolo.errors import CfgError
from yolo.export.formats import FORMATS
from yolo.heads.common.base import BoxHead
from yolo.heads.common.loss import GroundTruth, HeadLoss, LossRule
from yolo.heads.common.teaching import Teaching
from yolo.heads.trained import learns_from, trained_heads
from yolo.layers import Layer, Shape, base
from yolo.models.classes import with_classes
from yolo.models.initialize import initialize
from yolo.models.weights import Header
from yolo.network import Network
from yolo.training.distill import Distillation, check_heads
from yolo.training.loader import views_of

BEGINS = -3.0


@dataclass(frozen=True)
class Alike(Teaching[Tensor]):
    """The input of the student's head is to be that of the teacher's."""

    classes: int

    @property
    def traits(self) -> Sequence[str]:
        return [f"has {self.classes} classes"]

    def shown(self, x: Tensor) -> Tensor:
        return x

    def output(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        return (student - teacher).square().sum()


class Points(BoxHead):
    """A box of a fixed size at every place, and its classes; no anchors."""

    is_left_out = True

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__(section, earlier, image)
        self.classes = section.integer("classes", self.usual_classes, 1)
        self.entries = self.classes
        self.out_shape = self.inputs[0]

    @property
    def rule(self) -> LossRule:
        return self

    def loss(self, x: Tensor, targets: GroundTruth, seen: int) -> HeadLoss:
        return HeadLoss(x.square().sum(), {"class": 0.0})

    def teaching(self) -> Alike:
        return Alike(self.classes)

    def start_source(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**fresh, "biases": torch.full_like(fresh["biases"], BEGINS)}

    def described(self, locate: Callable[[int], object]) -> dict[str, object]:
        return {"classes": self.classes, "x": locate(self.sources[0])}

    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def decode(self, out: Tensor) -> Tensor:
        classes = out.flatten(2).transpose(1, 2)
        centres = torch.linspace(0, 1, classes.shape[1]).expand(len(out), -1)[..., None]
        size = torch.full_like(centres, 0.1)
        return torch.cat((centres, centres, size, size, torch.ones_like(centres), classes), 2)


@pytest.fixture(autouse=True)
def _points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_kinds", base._kinds | {"points": Points})


def network(seed: int = 0, classes: int = 3) -> Network:
    return build(f"{NET}{plain(4)}{plain(classes)}[points]\nclasses={classes}\n", seed)


def test_it_is_trained() -> None:
    model = network()
    rules = trained_heads(model.layers)
    assert list(rules) == [2]
    assert learns_from(model.layers[2]) == 1
    x = model(random_input(model), collect=[1])[1]
    targets = GroundTruth(torch.zeros(0, 6), torch.zeros(0, 0))
    rules[2].loss(x, targets, seen=1).total.backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_those_that_cannot_learn_from_a_teacher_name_it() -> None:
    other = build(f"{NET}{plain(3)}")
    with pytest.raises(CfgError, match=r"can't learn from a teacher: .* \[points\], \[region\]"):
        check_heads(other, other)


def test_it_learns_from_a_teacher() -> None:
    teacher, student = network(0), network(1)
    images = random_input(student)
    inputs = student(images, collect=student.head_inputs)
    targets = GroundTruth(torch.zeros(0, 6), torch.zeros(0, 0))
    lost = Distillation(teacher, student, "output", 0.5).loss(images, inputs, targets)
    with torch.no_grad():
        hint = teacher(images, collect=[1])[1]
    torch.testing.assert_close(lost, 0.5 * (inputs[1] - hint).square().sum())
    with pytest.raises(CfgError, match=r"\[points\] has no boxes: the form both"):
        Distillation(teacher, student, "both", 1.0)
    with pytest.raises(CfgError, match=r"has 3 classes, but the teacher's .* has 2 classes"):
        check_heads(student, network(classes=2))


def test_it_says_how_what_feeds_it_begins() -> None:
    model = Network(network().cfg)
    initialize(model)
    assert (model.state()[1]["biases"] == BEGINS).all()
    assert (model.state()[0]["biases"] == 0).all()


def test_it_takes_another_number_of_classes() -> None:
    cfg = with_classes(network().cfg, 7)
    assert [section.integer("filters") for section in cfg.layers[:2]] == [4, 7]
    assert cfg.layers[2].integer("classes") == 7


def test_it_detects() -> None:
    model = network()
    assert gives_boxes(model)
    assert box_classes(model) == 3
    with torch.no_grad():
        outputs = model(random_input(model))
        images = detect(model, outputs, 0.3, suppression(model))
    assert len(images) == 2
    assert all(len(image) for image in images)


def test_its_views_are_a_detectors() -> None:
    cfg = Cfg((network().cfg.to_bytes().decode() + "jitter=0.1\n").encode(), "x.cfg")
    assert views_of(cfg).jitter == 0.1


def test_its_input_is_pinned() -> None:
    graph = ChannelGraph(network())
    assert graph.reason(1) == "feeds a [points] head"
    assert graph.prunable(0)


@pytest.mark.parametrize("form", [f.name for f in FORMATS.values() if not f.has_options])
def test_an_export_leaves_it_out_and_says_how_to_compute_it(form: str, tmp_path: Path) -> None:
    written = FORMATS[form].load()(network(), Header(), tmp_path / "m.weights")
    for path, write in written:
        with path.open("wb") as file:
            write(file)
    assert b"[points]" not in (tmp_path / "m.cfg").read_bytes()
    assert '"points": [' in (tmp_path / "m.json").read_text()
    assert '"x": { "file": "m.cfg", "section": 1 }' in (tmp_path / "m.json").read_text()
