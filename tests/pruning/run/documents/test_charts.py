"""Charts as SVG: whether bars and points stand where they should."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from pruning.run.documents.charts import HEIGHT, LEFT, RIGHT, WIDTH, Bar, Point, bars, plane, scale
from yolo.figures import GONE, KEPT, MARK


@pytest.mark.parametrize(
    ("value", "ticks"),
    [
        (225, [0, 50, 100, 150, 200, 250]),
        (0.53, [0, 0.2, 0.4, 0.6]),
        (1000, [0, 200, 400, 600, 800, 1000]),
        (0.0071, [0, 0.002, 0.004, 0.006, 0.008]),
        (0, [0, 1]),
    ],
)
def test_an_axis_has_round_numbers(value: float, ticks: list[float]) -> None:
    assert list(scale(value)) == pytest.approx(ticks)


def test_bars_are_as_high_as_their_values() -> None:
    found = [Bar("0", "first <&>", 100, 25), Bar("7", "gone", 50, 0)]
    tree = ElementTree.fromstring(bars(found, "channels"))
    heights = [float(rect.get("height", "")) for rect in tree.iter("rect")]
    full = heights[0]
    assert heights == pytest.approx([full, full / 4, full / 2, 0], abs=0.02)
    assert [rect.get("fill") for rect in tree.iter("rect")] == [GONE, KEPT] * 2
    titles = [title.text for title in tree.iter("title")]
    assert titles == ["channels", "first <&>", "gone"]


def test_front_bars_may_be_narrow() -> None:
    tree = ElementTree.fromstring(bars([Bar("0", "", 2, 1)], "ms", 0.5))
    back, front = tree.iter("rect")
    width = float(back.get("width", ""))
    assert float(front.get("width", "")) == pytest.approx(width / 2)
    middle = [float(r.get("x", "")) + float(r.get("width", "")) / 2 for r in (back, front)]
    assert middle[0] == pytest.approx(middle[1], abs=0.02)


def test_the_best_cuts_are_joined_and_this_one_is_ringed() -> None:
    points = [Point(0.5, 0.4, "half", True), Point(0.5, 0.1, "worse"), Point(1, 0.8, "all", True)]
    this = Point(0.25, 0.2, "this")
    tree = ElementTree.fromstring(plane(points, this, 0.8, ("MACs", "mAP")))
    (joint,) = tree.iter("polyline")
    places = [tuple(map(float, pair.split(","))) for pair in joint.get("points", "").split()]
    room = WIDTH - LEFT - RIGHT
    assert [x for x, _ in places] == pytest.approx([LEFT + room / 2, LEFT + room], abs=0.1)
    assert 0 < places[1][1] < places[0][1] < HEIGHT  # more is higher up
    strokes = [circle.get("stroke") for circle in tree.iter("circle")]
    assert strokes.count(MARK) == 1
    dashed = [line for line in tree.iter("line") if line.get("stroke-dasharray")]
    assert [float(line.get("y1", "")) for line in dashed] == pytest.approx([places[1][1]], abs=0.1)


def test_a_plane_without_this_cut_or_the_original() -> None:
    tree = ElementTree.fromstring(plane([Point(0.5, 0.4, "half", True)], None, None, ("a", "b")))
    assert len(list(tree.iter("circle"))) == 1
    assert not [line for line in tree.iter("line") if line.get("stroke-dasharray")]
