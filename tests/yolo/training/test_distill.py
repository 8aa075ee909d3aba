"""Distillation: the losses against loops over cells, their gradients, and which heads match."""

import math

import numpy as np
import pytest
import torch
from cfgs import net, plain
from networks import build

from yolo.cfg import Cfg
from yolo.errors import CfgError
from yolo.heads.common.loss import GroundTruth
from yolo.network import Network
from yolo.training.distill import FORMS, Distillation, check_heads

WIDTH, HEIGHT = 3, 2  # of the maps that enter the heads
ANCHORS = "anchors=5,7, 9,4, 14,15\nnum=3\n"
BOXES = torch.tensor(
    [
        [0, 1, 0.4, 0.6, 0.2, 0.5],
        [0, 0, 0.41, 0.61, 0.22, 0.5],  # the same cell
        [1, 1, 1.0, 1.0, 0.6, 0.9],  # the corner belongs to the last cell
        [1, 0, 0.5, 0.5, 0.0, 0.3],  # nothing
    ]
)


def cfg(filters, head, size=(8 * WIDTH, 8 * HEIGHT), before="", channels=3):
    last = plain(filters, 8, stride=8, pad=None)
    return net(*size, channels) + before + last + head


def yolo(options=""):
    return cfg(14, f"[yolo]\nclasses=2\nmask=0,2\n{ANCHORS}{options}")


REGION = "[region]\nclasses=2\nanchors=0.7,0.9, 1.5,0.5\nnum=2\n"
DETECTORS = {
    "yolo": yolo(),
    "stretched": yolo("scale_x_y=1.2\n"),
    "new_coords": yolo("scale_x_y=2\nnew_coords=1\n").replace("=linear", "=logistic"),
    "gaussian": cfg(22, f"[Gaussian_yolo]\nclasses=2\nmask=0,2\n{ANCHORS}yolo_point=left_top\n"),
    "region": cfg(14, REGION),
    "region with softmax": cfg(14, REGION + "softmax=1\n"),
}
CLASSIFIERS = {
    "softmax": cfg(4, "[avgpool]\n[softmax]\n"),
    "softmax in groups": cfg(4, "[avgpool]\n[softmax]\ngroups=2\ntemperature=1.5\n"),
}
CASES = [(name, text, form) for name, text in DETECTORS.items() for form in FORMS]
CASES += [(name, text, "output") for name, text in CLASSIFIERS.items()]
every_case = pytest.mark.parametrize(("name", "text", "form"), CASES)


def shown(boxes):
    """The targets of a detector's batch."""
    return GroundTruth(boxes, torch.zeros(0, 0))


class Lesson:
    """A teacher, a student of the same cfg, images, and what enters the student's heads."""

    def __init__(self, text, seed=1, **options):
        self.teacher, self.student = build(text).double(), build(text, seed).double()
        random = torch.Generator().manual_seed(0)
        self.images = torch.rand(2, 3, 8 * HEIGHT, 8 * WIDTH, generator=random).double()
        options = {"form": "output", "weight": 1.0} | options
        self.distillation = Distillation(self.teacher, self.student, **options)
        with torch.no_grad():
            inputs = self.student(self.images, collect=self.student.head_inputs)
        self.inputs = {i: x.requires_grad_() for i, x in inputs.items()}

    def loss(self, *inputs, boxes=BOXES):
        head_inputs = dict(zip(self.inputs, inputs, strict=True)) if inputs else self.inputs
        return self.distillation.loss(self.images, head_inputs, shown(boxes))

    def numbers(self, network):
        """What enters the only head of a network: (N, anchors, entries, H, W) of numpy."""
        head = network.layers[-1]
        with torch.no_grad():
            (x,) = network(self.images, collect=network.head_inputs).values()
        return x.unflatten(1, (-1, head.entries)).numpy()


@every_case
def test_nothing_is_lost_by_a_student_that_equals_its_teacher(name, text, form):
    lesson = Lesson(text, seed=0, form=form)
    loss = lesson.loss()
    assert loss.item() == pytest.approx(0, abs=1e-14)
    (gradient,) = torch.autograd.grad(loss, list(lesson.inputs.values()))
    assert gradient.abs().max() < 1e-14


@every_case
def test_gradients(name, text, form):
    lesson = Lesson(text, form=form)
    assert lesson.loss().item() > 1e-3
    assert torch.autograd.gradcheck(lesson.loss, tuple(lesson.inputs.values()), fast_mode=True)


@every_case
def test_the_loss_is_a_sum_over_images_and_only_the_student_learns(name, text, form):
    lesson = Lesson(text, form=form, weight=0.5)
    head_inputs = lesson.student(lesson.images, collect=lesson.student.head_inputs)
    loss = lesson.distillation.loss(lesson.images, head_inputs, shown(BOXES))
    loss.backward()
    assert all(p.grad is None for p in lesson.teacher.parameters())
    assert any(p.grad is not None and p.grad.any() for p in lesson.student.parameters())
    single = 0.0
    for image in range(2):
        boxes = BOXES[BOXES[:, 0] == image] * torch.tensor([0.0, 1, 1, 1, 1, 1])
        inputs = {i: x[image : image + 1] for i, x in lesson.inputs.items()}
        lesson.distillation.weight = 1.0
        single += lesson.distillation.loss(lesson.images[image : image + 1], inputs, shown(boxes))
    assert loss.item() == pytest.approx(single.item() / 2, rel=1e-12)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def divergence(p, q):
    """Of a coin with the probability q from one with p."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_output_against_loops():
    lesson = Lesson(yolo("scale_x_y=1.2\n"))
    mine, its = lesson.numbers(lesson.student), lesson.numbers(lesson.teacher)
    expected = 0.0
    for n, a, row, column in np.ndindex(2, 2, HEIGHT, WIDTH):
        s, t = mine[n, a, :, row, column], its[n, a, :, row, column]
        p, q = sigmoid(t[4:]), sigmoid(s[4:])
        boxes = ((1.2 * (sigmoid(s[:2]) - sigmoid(t[:2]))) ** 2).sum() + ((s - t)[2:4] ** 2).sum()
        classes = divergence(p[1], q[1]) + divergence(p[2], q[2])
        expected += divergence(p[0], q[0]) + p[0] * (boxes / 2 + classes)
    assert lesson.loss().item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("new_coords", [False, True])
def test_bounded_against_loops(new_coords, margin):
    lesson = Lesson(
        DETECTORS["new_coords" if new_coords else "yolo"], form="bounded", margin=margin
    )
    anchors = np.array([[5, 7], [9, 4], [14, 15]]) / (8 * WIDTH, 8 * HEIGHT)
    mine, its = lesson.numbers(lesson.student), lesson.numbers(lesson.teacher)
    expected, counted = 0.0, 0
    for image, _, x, y, w, h in BOXES[:3].numpy().astype(float):
        shared = np.minimum((w, h), anchors).prod(1)
        best = (shared / (w * h + anchors.prod(1) - shared)).argmax()
        if best == 1:  # not in the mask
            continue
        column, row = min(int(x * WIDTH), WIDTH - 1), min(int(y * HEIGHT), HEIGHT - 1)
        times = np.array((w, h)) / anchors[best]
        size = np.sqrt(times / 4) if new_coords else np.log(times)
        wanted = [x * WIDTH - column, y * HEIGHT - row, *size]
        errors = []
        for numbers in (mine, its):
            t = numbers[int(image), best // 2, :4, row, column]
            xy = 2 * t[:2] - 0.5 if new_coords else sigmoid(t[:2])
            errors.append(((np.concatenate((xy, t[2:])) - wanted) ** 2).sum())
        counted += 1
        expected += errors[0] / 2 if errors[0] + margin > errors[1] else 0
    assert counted
    assert lesson.loss().item() == pytest.approx(expected, rel=1e-6)


def test_a_student_is_taught_until_it_is_better_than_its_teacher():
    """One truth in the middle of cell (1, 1), of the shape of anchor 0: all but xy = 0 is right."""
    box = torch.tensor([[0, 0, 1.5 / WIDTH, 1.5 / HEIGHT, 5 / (8 * WIDTH), 7 / (8 * HEIGHT)]])
    lesson = Lesson(yolo(), form="bounded")
    errors = (lesson.numbers(lesson.teacher)[0, 0, :4, 1, 1] - [0, 0, 0, 0]) ** 2
    xy = sigmoid(lesson.numbers(lesson.teacher)[0, 0, :2, 1, 1]) - 0.5
    teachers = (xy**2).sum() + errors[2:].sum()
    (x,) = lesson.inputs.values()
    for error in (0.99 * teachers, 1.01 * teachers):
        mine = torch.zeros_like(x)
        mine[0, 2, 1, 1] = error**0.5
        expected = error / 2 if error > teachers else 0
        assert lesson.loss(mine, boxes=box).item() == pytest.approx(expected, rel=1e-5)


def test_no_truths():
    assert Lesson(yolo(), form="bounded").loss(boxes=torch.zeros(0, 6)) == 0


def test_softmax_against_torch():
    temperature = 3.0
    lesson = Lesson(CLASSIFIERS["softmax"], temperature=temperature)
    logits = [
        network(lesson.images, collect=network.head_inputs)[1].flatten(1) / temperature
        for network in (lesson.student, lesson.teacher)
    ]
    target = torch.distributions.Categorical(logits=logits[1])
    mine = torch.distributions.Categorical(logits=logits[0])
    expected = torch.distributions.kl_divergence(target, mine).sum() * temperature**2
    assert lesson.loss().item() == pytest.approx(expected.item(), rel=1e-9)


def test_half_precision_is_compared_in_single():
    lesson = Lesson(yolo(), form="both")
    halves = {i: x.detach().half() for i, x in lesson.inputs.items()}
    expected = lesson.loss().item()
    lesson.teacher.float()
    loss = lesson.distillation.loss(lesson.images.float(), halves, shown(BOXES))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-2)


def network(text, path):
    return Network(Cfg(text.encode(), path))


def test_a_teacher_of_another_structure_and_size():
    stem = plain(4, 3, activation="leaky")
    head = f"[yolo]\nclasses=2\nmask=0,2\n{ANCHORS}"
    teacher = build(cfg(14, head, (64, 48), stem))
    student = build(yolo(), 1)
    ((mine, its),) = check_heads(student, teacher)
    assert (mine, its) == (student.layers[1], teacher.layers[2])
    images = torch.rand(2, 3, 8 * HEIGHT, 8 * WIDTH)
    inputs = student(images, collect=student.head_inputs)
    assert Distillation(teacher, student, "both", 1.0).loss(images, inputs, shown(BOXES)) > 0


HEAD = "[yolo]\nclasses=2\nmask=0,2\n" + ANCHORS
UNLIKE = {
    "number": (yolo() + "[route]\nlayers=0\n" + HEAD, "is the last of 1 heads"),
    "type": (cfg(14, REGION), r"is a \[yolo\]"),
    "classes": (cfg(16, HEAD.replace("classes=2", "classes=3")), "has 2 classes"),
    "anchors": (yolo().replace("14,15", "14,16"), "has the anchors 5x7, 14x15"),
    "mask": (yolo().replace("mask=0,2", "mask=2,0"), "has the anchors 5x7, 14x15"),
    "scale_x_y": (yolo("scale_x_y=1.05\n"), "has scale_x_y=1,"),
    "new_coords": (yolo("new_coords=1\n"), "has new_coords=0,"),
    "map": (yolo().replace("stride=8", "stride=4"), "has a map of 3x2 cells"),
    "image": (cfg(14, HEAD, channels=1), "reads 3 channels"),
}


@pytest.mark.parametrize(("text", "message"), UNLIKE.values(), ids=UNLIKE)
def test_heads_that_differ(text, message):
    with pytest.raises(CfgError, match=message) as error:
        check_heads(network(yolo(), "student.cfg"), network(text, "teacher.cfg"))
    assert str(error.value).startswith("student.cfg:")
    assert "but the teacher's teacher.cfg:" in str(error.value)


def test_softmax_heads_that_differ():
    for other in ("groups=2\n", ""):
        text = cfg(4 if other else 6, "[avgpool]\n[softmax]\n" + other)
        with pytest.raises(CfgError, match=r"has (4 outputs|groups=1), but the teacher's"):
            check_heads(network(CLASSIFIERS["softmax"], "s.cfg"), network(text, "t.cfg"))


def test_what_has_no_head_to_learn_from():
    plain = network(cfg(4, ""), "s.cfg")
    with pytest.raises(CfgError, match=r"s.cfg:5: \[convolutional\] can't learn from a teacher"):
        check_heads(plain, plain)


def test_classifiers_have_no_boxes():
    classifier = build(CLASSIFIERS["softmax"])
    with pytest.raises(CfgError, match=r"\[softmax\] has no boxes: the form bounded"):
        Distillation(classifier, classifier, "bounded", 1.0)


@pytest.mark.parametrize("kind", ["[connected]\noutput=4", "[local]\nfilters=4"])
def test_a_teacher_that_only_sees_images_of_its_own_size(kind):
    text = cfg(6, f"{kind}\nactivation=linear\n[avgpool]\n[softmax]\n", (16, 16))
    assert check_heads(network(text, "s.cfg"), network(text, "t.cfg"))
    wide = network(text.replace("width=16", "width=24"), "t.cfg")
    with pytest.raises(CfgError, match=r"t.cfg:10: \[\w+\] its \w+ have the shape"):
        check_heads(network(text, "s.cfg"), wide)
