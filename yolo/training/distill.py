"""Distillation: a loss against the heads of a teacher network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.heads.common.base import teaching_of
from yolo.heads.common.loss import GroundTruth
from yolo.heads.common.teaching import BOUNDED, FORMS, OUTPUT
from yolo.layers import Layer
from yolo.network import Network


class Distillation:
    """The loss of a student against a teacher at its heads.

    Form `output`: the student should give the teacher's output. Objectness and classes are compared
    by cross entropy, boxes by half the squared error; classes and boxes are weighted by the
    teacher's objectness, so that background only affects objectness (Mehta & Ozturk, Object
    Detection at 200 Frames per Second, 2018). Classes of a softmax are compared at a temperature,
    times its square (Hinton, Vinyals & Dean, Distilling the Knowledge in a Neural Network, 2015).
    The teacher's own entropy is subtracted: a student that equals its teacher has a loss of 0.
    Form `bounded`: half the squared error of the boxes of truths that, with `margin`, are worse
    than the teacher's (Chen et al., Learning Efficient Object Detection Models with Knowledge
    Distillation, NIPS 2017). `both` is the sum. Raises CfgError where heads differ.
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
            if form not in teaching_of(mine).forms:
                raise mine.section.error(
                    f"has no boxes: the form {form} of distillation needs them"
                )
        self.teacher = teacher.eval()
        self.form, self.weight = form, weight
        self.temperature, self.margin = temperature, margin

    def loss(self, images: Tensor, inputs: Mapping[int, Tensor], targets: GroundTruth) -> Tensor:
        """The loss, summed over the images; only the student's tensors get a gradient.

        `images` (N, C, H, W) in [0, 1]; `inputs` of the student's heads, by the index of the
        section that they come from.
        """
        with torch.no_grad():
            hints = self.teacher(images, collect=self.teacher.head_inputs)
        total = images.new_zeros(())
        for mine, its in self.heads:
            x, hint = inputs[mine.sources[0]], hints[its.sources[0]]
            if x.dtype in (torch.float16, torch.bfloat16):
                x = x.float()
            total = total + self._lost(mine, its, x, hint.to(x.dtype), targets)
        return self.weight * total

    def _lost(
        self, mine: Layer, its: Layer, x: Tensor, hint: Tensor, targets: GroundTruth
    ) -> Tensor:
        teaching = teaching_of(mine)
        shown = teaching.shown(x), teaching_of(its).shown(hint)
        lost = x.new_zeros(())
        if self.form != BOUNDED:
            lost = lost + teaching.output(*shown, self.temperature)
        if self.form != OUTPUT:
            lost = lost + teaching.bounded(*shown, targets.boxes.to(x), self.margin)
        return lost


def check_heads(student: Network, teacher: Network) -> list[tuple[Layer, Layer]]:
    """Pairs of the student's and the teacher's heads, in order.

    Types, maps for an image of the student's size, classes and anchors must be equal. Raises
    CfgError, naming both sections, where they differ.
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
    """Descriptions of what a head and its teacher's must have in common; raises CfgError."""
    return [f"is a [{head.section.type}]", *teaching_of(head).traits]
