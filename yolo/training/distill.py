"""Distillation: a teacher's heads say more than the truth does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.assign import Grid, match_anchors
from yolo.heads.region import Region
from yolo.heads.softmax import Softmax
from yolo.heads.yolo import AnchorHead
from yolo.layers import Layer
from yolo.network import Network

FORMS = ("output", "bounded", "both")
BoxHead = AnchorHead | Region
NEAREST = 1e-6  # what probabilities keep from 0 and 1 where they enter the head as such


class Distillation:
    """What a student loses against a teacher at its heads.

    `output`: it is to say what the teacher says. Objectness by the cross entropy; classes, too, and
    boxes by half the squared error, both weighted by the teacher's objectness, so that background
    teaches nothing else (Mehta & Ozturk, Object Detection at 200 Frames per Second, 2018). Where a
    softmax gives the classes, theirs are compared at a temperature, times its square (Hinton,
    Vinyals & Dean, Distilling the Knowledge in a Neural Network, 2015). The teacher's own entropy
    is subtracted: nothing is lost by a student that equals its teacher.
    `bounded`: boxes of truths only, half the squared error of those that, with `margin`, are
    worse than the teacher's (Chen et al., Learning Efficient Object Detection Models with
    Knowledge Distillation, NIPS 2017). `both` is the sum. Raises CfgError where heads differ.
    """

    def __init__(
        self,
        teacher: Network,
        student: Network,
        form: str,
        weight: float,
        temperature: float = 4.0,
        margin: float = 0.0,
    ) -> None:
        if form not in FORMS:
            raise ValueError(f"form {form}: expected one of {', '.join(FORMS)}")
        self.heads = check_heads(student, teacher)
        for mine, _ in self.heads:
            if form != "output" and not isinstance(mine, BoxHead):
                raise mine.section.error(
                    f"has no boxes: the form {form} of distillation needs them"
                )
        self.teacher = teacher.eval()
        self.form, self.weight = form, weight
        self.temperature, self.margin = temperature, margin

    def loss(self, images: Tensor, student_inputs: Mapping[int, Tensor], targets: Tensor) -> Tensor:
        """The loss, summed over the images; only the student's tensors get a gradient of it.

        `images` (N, C, H, W) in [0, 1]; what enters the student's heads, by the section that it
        comes from; boxes (M, 6): image, class, centre x, y, width, height relative to the image.
        """
        with torch.no_grad():
            hints = self.teacher(images, collect=self.teacher.head_inputs)
        total = images.new_zeros(())
        for mine, its in self.heads:
            x, hint = student_inputs[mine.sources[0]], hints[its.sources[0]]
            if x.dtype in (torch.float16, torch.bfloat16):
                x = x.float()
            total = total + self._lost(mine, its, x, hint.to(x.dtype), targets)
        return self.weight * total

    def _lost(self, mine: Layer, its: Layer, x: Tensor, hint: Tensor, targets: Tensor) -> Tensor:
        if isinstance(mine, Softmax) and isinstance(its, Softmax):
            return self._soft(_logits(mine, x), _logits(its, hint)).sum()
        assert isinstance(mine, BoxHead)
        student, teacher = Entries.of(mine, x), Entries.of(mine, hint)
        lost = x.new_zeros(())
        if self.form != "bounded":
            lost = lost + self._output(mine, student, teacher)
        if self.form != "output":
            lost = lost + self._bounded(mine, student, teacher, targets.to(x))
        return lost

    def _output(self, head: BoxHead, student: Entries, teacher: Entries) -> Tensor:
        sure = teacher.objectness.sigmoid()
        boxes = (student.coordinates - teacher.coordinates).square().sum(2) / 2
        if isinstance(head, AnchorHead):
            classes = _logistic(student.classes, teacher.classes).sum(2)
        elif head.softmax:
            classes = self._soft(student.classes, teacher.classes)
        else:
            classes = (student.classes - teacher.classes).square().sum(2) / 2
        found = _logistic(student.objectness, teacher.objectness)
        return (found + sure * (boxes + classes)).sum()

    def _bounded(
        self, head: BoxHead, student: Entries, teacher: Entries, targets: Tensor
    ) -> Tensor:
        at, wanted = _assigned(head, student.objectness, targets)
        errors = [
            (entries.means.movedim(2, 4)[at] - wanted).square().sum(1)
            for entries in (student, teacher)
        ]
        worse = errors[0].detach() + self.margin > errors[1]
        return (errors[0] * worse).sum() / 2

    def _soft(self, student: Tensor, teacher: Tensor) -> Tensor:
        """T² times the divergence of two softmaxes from their logits: (N, K, classes, …)."""
        mine, its = (logits / self.temperature for logits in (student, teacher))
        target = its.log_softmax(2)
        divergence = F.kl_div(mine.log_softmax(2), target, reduction="none", log_target=True)
        return divergence.sum(2) * self.temperature**2


@dataclass(frozen=True)
class Entries:
    """What enters a head of boxes, by what it stands for: (N, anchors, …, H, W).

    `coordinates` as Darknet's loss has them: centres in cells, logarithms of sizes in anchors;
    `objectness` (N, anchors, H, W) and `classes` are logits.
    """

    coordinates: Tensor
    objectness: Tensor
    classes: Tensor

    @classmethod
    def of(cls, head: BoxHead, x: Tensor) -> Entries:
        """What enters a head (N, C, H, W), by its meaning."""
        entries = x.unflatten(1, (-1, head.entries))
        first = head.coordinates if isinstance(head, AnchorHead) else 4
        coordinates, logits = entries[:, :, :first], entries[:, :, first:]
        if isinstance(head, AnchorHead):
            coordinates = head.activate(coordinates)
        else:
            coordinates = torch.cat((coordinates[:, :, :2].sigmoid(), coordinates[:, :, 2:]), 2)
        if isinstance(head, AnchorHead) and head.new_coords:
            logits = logits.logit(NEAREST)
        return cls(coordinates, logits[:, :, 0], logits[:, :, 1:])

    @property
    def means(self) -> Tensor:
        """Coordinates without the uncertainties that Gaussian_yolo has behind each."""
        return self.coordinates[:, :, :: self.coordinates.shape[2] // 4]


def _logistic(student: Tensor, teacher: Tensor) -> Tensor:
    """The divergence of two logistics from their logits, element by element."""
    target = teacher.sigmoid()
    cross, entropy = (
        F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        for logits in (student, teacher)
    )
    return cross - entropy


def _logits(head: Softmax, x: Tensor) -> Tensor:
    """(N, groups, outputs of a group)"""
    return x.flatten(1).unflatten(1, (head.groups, -1)) / head.temperature


def _assigned(
    head: BoxHead, like: Tensor, targets: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Image, anchor, row and column of the truths' predictions, and their coordinates (K, 4).

    The anchor is the one of the most similar shape; truths whose anchor is another head's are
    left out. `like` is (N, anchors, H, W).
    """
    targets = targets[(targets[:, 4:] > 0).all(1)]
    boxes, shape = targets[:, 2:], targets.new_tensor((like.shape[3], like.shape[2]))
    if isinstance(head, AnchorHead):
        anchors, mask = head.relative(head.all_anchors, like.to(targets)), list(head.mask)
        points = head.reference(boxes)
    else:
        anchors, mask = targets.new_tensor(head.anchors) / shape, list(range(len(head.anchors)))
        points = boxes[:, :2]
    slot = torch.tensor([mask.index(i) if i in mask else -1 for i in range(len(anchors))])
    slot = slot.to(targets.device)
    number, anchor = (match_anchors(boxes, anchors, "iou", 1.0) & (slot >= 0)).nonzero(
        as_tuple=True
    )
    row, column = Grid(*like.shape).around(points[number])
    times = boxes[number, 2:] / anchors[anchor]
    logarithmic = not (isinstance(head, AnchorHead) and head.new_coords)
    sizes = times.log() if logarithmic else (times / 4).sqrt()
    centres = points[number] * shape - torch.stack((column, row), 1)
    at = targets[number, 0].long(), slot[anchor], row, column
    return at, torch.cat((centres, sizes), 1)


def check_heads(student: Network, teacher: Network) -> list[tuple[Layer, Layer]]:
    """The student's heads, each with the teacher's that it learns from, in their order.

    They must predict the same: types, maps for an image of the student's size, classes, anchors.
    Raises CfgError that names both sections where they don't.
    """
    channels = [f"reads {n.image.channels} channels" for n in (student, teacher)]
    _check_equal(student.cfg.net, teacher.cfg.net, *channels)
    image, sized = student.image, teacher
    if image != teacher.image:
        sized = teacher.resized(image.width, image.height)
    mine, its = ([network.layers[i] for i in network.heads] for network in (student, sized))
    count = (f"is the last of {len(heads)} heads" for heads in (mine, its))
    _check_equal(mine[-1].section, its[-1].section, *count)
    for own, other in zip(mine, its, strict=True):
        pairs = zip(_traits(own), _traits(other), strict=False)  # the first is the type
        for trait, asked in pairs:
            _check_equal(own.section, other.section, trait, asked)
    return [
        (own, teacher.layers[other.section.index]) for own, other in zip(mine, its, strict=True)
    ]


def _check_equal(mine: Section, its: Section, trait: str, asked: str) -> None:
    if trait != asked:
        teacher = f"{its.path}:{its.line + 1}: [{its.name}]"
        raise mine.error(f"{trait}, but the teacher's {teacher} {asked}: they must be equal")


def _traits(head: Layer) -> list[str]:
    """What a head and its teacher's must have in common, in words; raises CfgError."""
    found = [f"is a [{head.section.type}]"]
    if isinstance(head, Softmax):
        found.append(f"has {head.out_shape.elements} outputs")
        return [*found, f"has groups={head.groups}"]
    if not isinstance(head, (AnchorHead, Region)):
        raise head.section.error(
            "can't learn from a teacher: that needs a head with anchors, or a [softmax]"
        )
    found.append(f"has {head.classes} classes")
    found.append(f"has a map of {head.out_shape.width}x{head.out_shape.height} cells")
    # pixels of images that are equally large here, or cells of such maps
    anchors = ", ".join(f"{width:.5g}x{height:.5g}" for width, height in head.anchors)
    found.append(f"has the anchors {anchors}")
    keys = ("scale_x_y", "new_coords", "offset", "softmax")
    return found + [f"has {key}={getattr(head, key):g}" for key in keys if hasattr(head, key)]
