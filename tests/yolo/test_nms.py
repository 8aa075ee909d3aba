"""Ties in non-maximum suppression: equal confidences, and an overlap of exactly the threshold."""

from __future__ import annotations

import pytest
import torch

from yolo.boxes import iou
from yolo.detections import Candidates
from yolo.nms import Nms

WIDE = (0.5, 0.5, 0.5, 0.5)
HALF = (0.5, 0.5, 0.5, 0.25)  # IoU with WIDE: exactly 0.5
INSIDE = (0.5, 0.5, 0.5, 0.4375)  # … and 0.875
ALL = pytest.mark.parametrize("per_class", [0, 10], ids=["pairs", "best of each class"])


def kept(boxes: list[tuple[float, ...]], confidences: list[float], rule: Nms) -> list[bool]:
    return rule.kept(torch.tensor(boxes), torch.tensor(confidences)[:, None])[:, 0].tolist()


@ALL
@pytest.mark.parametrize("boxes", [[WIDE, INSIDE], [INSIDE, WIDE]])
def test_of_equal_confidences_the_first_stays(
    boxes: list[tuple[float, ...]], per_class: int
) -> None:
    """do_nms_sort of box.c: it sorts, and what comes later goes."""
    assert kept(boxes, [0.75, 0.75], Nms(0.45, per_class=per_class)) == [True, False]


def test_a_chain_of_equal_confidences() -> None:
    """The second goes for the first, so it can't take the third with it."""
    row = [(x, 0.5, 0.25, 0.25) for x in (0.25, 0.3125, 0.375)]  # neighbours: IoU 0.6
    assert kept(row, [0.5, 0.5, 0.5], Nms(0.45)) == [True, False, True]


def test_equal_detections_are_one() -> None:
    boxes = torch.tensor([WIDE, WIDE, WIDE])
    detections = Candidates(boxes, torch.full((3, 1), 0.5)).suppressed(Nms())
    assert detections.confidences.tolist() == [0.5]


@ALL
@pytest.mark.parametrize(("thresh", "both"), [(0.5, True), (0.499, False)])
def test_an_overlap_of_exactly_the_threshold_stays(
    thresh: float, both: bool, per_class: int
) -> None:
    rule = Nms(thresh, per_class=per_class)
    assert kept([WIDE, HALF], [0.9, 0.8], rule) == [True, both]


def test_an_exponent_asks_for_both_overlaps() -> None:
    """Boxes with one centre: DIoU is IoU."""
    assert kept([WIDE, HALF], [0.9, 0.8], Nms(0.5, 0.6)) == [True, True]
    assert kept([WIDE, HALF], [0.9, 0.8], Nms(0.499, 0.6)) == [True, False]


@pytest.mark.parametrize(("less", "both"), [(0, True), (1e-6, False)])
def test_a_diou_of_exactly_the_threshold_stays(less: float, both: bool) -> None:
    shifted = (0.625, 0.5, 0.5, 0.5)
    diou = float(iou(torch.tensor(WIDE), torch.tensor(shifted), "diou", 0.6))
    assert kept([WIDE, shifted], [0.9, 0.8], Nms(diou - less, 0.6)) == [True, both]
