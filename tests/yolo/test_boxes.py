"""Overlaps of boxes against scalar formulas written from the papers, and their properties."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo.boxes import KINDS, iou, overlaps

centres = st.floats(-1, 2, width=32)
sides = st.floats(0.03125, 2, width=32)
boxes = st.tuples(centres, centres, sides, sides)
kinds = st.sampled_from(KINDS)


def scalar(a, b, kind):
    """arXiv 1902.09630, algorithm 1, and 1911.08287, equations 6 to 11"""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    x = [ax - aw / 2, ax + aw / 2, bx - bw / 2, bx + bw / 2]
    y = [ay - ah / 2, ay + ah / 2, by - bh / 2, by + bh / 2]
    inter = max(min(x[1], x[3]) - max(x[0], x[2]), 0) * max(min(y[1], y[3]) - max(y[0], y[2]), 0)
    union = aw * ah + bw * bh - inter
    width, height = max(x) - min(x), max(y) - min(y)
    if kind == "iou":
        return inter / union
    if kind == "giou":
        return inter / union - (width * height - union) / (width * height)
    distance = ((ax - bx) ** 2 + (ay - by) ** 2) / (width**2 + height**2)
    if kind == "diou":
        return inter / union - distance
    v = 4 / math.pi**2 * (math.atan(bw / bh) - math.atan(aw / ah)) ** 2
    alpha = v / (1 - inter / union + v) if v else 0
    return inter / union - distance - alpha * v


def iou_of(a, b, *kind):
    return iou(torch.tensor(a), torch.tensor(b), *kind).item()


@given(boxes, boxes, kinds)
def test_formulas(a, b, kind):
    assert iou_of(a, b, kind) == pytest.approx(scalar(a, b, kind), abs=2e-5)


@settings(max_examples=50)
@given(boxes, boxes)
def test_relations(a, b):
    value = {kind: iou_of(a, b, kind) for kind in KINDS}
    assert 0 <= value["iou"] <= 1 + 1e-5
    assert -1 - 1e-5 <= value["giou"] <= value["iou"] + 1e-5
    assert -1 - 1e-5 <= value["diou"] <= value["iou"] + 1e-5
    assert value["ciou"] <= value["diou"] + 1e-5
    for kind in KINDS:
        assert iou_of(b, a, kind) == pytest.approx(value[kind], abs=1e-5)


@settings(max_examples=50)
@given(boxes, kinds)
def test_equal_boxes(a, kind):
    assert iou_of(a, a, kind) == pytest.approx(1, abs=1e-4)


@given(boxes, boxes, kinds, st.tuples(centres, centres), st.floats(0.25, 4, width=32))
def test_moved_and_scaled_together(a, b, kind, by, times):
    def moved(box):
        return [(box[0] + by[0]) * times, (box[1] + by[1]) * times, box[2] * times, box[3] * times]

    assert iou_of(moved(a), moved(b), kind) == pytest.approx(iou_of(a, b, kind), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0.5, 0.5, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0), 0.0),  # nothing, around it nothing
        ((0.2, 0.5, 0.2, 0.2), (0.4, 0.5, 0.2, 0.2), None),  # they touch
        ((0.2, 0.2, 0.0, 0.3), (0.2, 0.2, 0.0, 0.3), None),  # lines
    ],
)
def test_darknets_conventions(kind, a, b, expected):
    value = iou_of(a, b, kind)
    assert math.isfinite(value)
    assert iou_of(a, b) == pytest.approx(0, abs=1e-5)
    if expected is not None:
        assert value == expected


def test_the_exponent_is_of_dious_penalty():
    a, b = (0.2, 0.3, 0.2, 0.4), (0.5, 0.3, 0.3, 0.2)
    penalty = iou_of(a, b) - iou_of(a, b, "diou")
    assert iou_of(a, b, "diou", 0.6) == pytest.approx(iou_of(a, b) - penalty**0.6)
    assert penalty > 0.1


def test_broadcast():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(3, 1, 4, generator=generator), torch.rand(5, 4, generator=generator)
    for kind in KINDS:
        table = iou(a, b, kind)
        assert table.shape == (3, 5)
        assert table[2, 3].item() == pytest.approx(iou_of(a[2, 0].tolist(), b[3].tolist(), kind))
    assert iou(a[:, 0], b[:0, None]).shape == (0, 3)


@given(st.lists(boxes, max_size=8), st.sampled_from([0.0, 0.25, 0.45, 0.9]))
def test_overlaps_of_all_with_all(some, thresh):
    some = [*some, (0.5, 0.5, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0)]  # without any area
    tables = overlaps(torch.tensor([some, some[::-1]]), thresh)
    assert tables.shape == (2, len(some), len(some))
    for table, order in zip(tables, (some, some[::-1]), strict=True):
        for row, column in itertools.product(range(len(some)), repeat=2):
            value = iou_of(order[row], order[column])
            if abs(value - thresh) > 1e-5 or value == 0:
                assert table[row, column].item() == (column > row and value > thresh)


def test_another_kind():
    with pytest.raises(ValueError, match="kind='eiou': expected one of iou, giou, diou, ciou"):
        iou(torch.zeros(4), torch.zeros(4), "eiou")
