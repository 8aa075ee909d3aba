"""Charts of a page as SVG: bars of all sections, and cuts in a plane."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pruning.run.documents.markup import Markup, element, joined
from yolo.figures import GONE, KEPT, MARK

WIDTH, HEIGHT = 1000, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 40
LABELS = 20  # numbers below the bars, at most
# tops of a value axis between 1 and 10, and into how many parts lines divide them
TOPS = {1: 5, 1.5: 3, 2: 4, 2.5: 5, 3: 3, 4: 4, 5: 5, 6: 3, 8: 4, 10: 5}
LINE, INK = "#e3e8ed", "#5b6875"


@dataclass(frozen=True)
class Bar:
    """A section: `label` stands below its bars, `title` is shown beside the pointer."""

    label: str
    title: str
    before: float
    after: float


@dataclass(frozen=True)
class Point:
    """A cut: x and y in [0, 1], `best` where no other has more of y for as little of x."""

    x: float
    y: float
    title: str
    best: bool = False


def bars(found: Sequence[Bar], what: str, front: float = 1.0) -> Markup:
    """After in front of before, a place for each; the front ones take this share of the width."""
    ticks = scale(max((max(bar.before, bar.after) for bar in found), default=0.0))
    top = ticks[-1]
    place = (WIDTH - LEFT - RIGHT) / max(len(found), 1)
    gap = min(0.2 * place, 6)
    drawn = [_grid(ticks), *(_pair(n, bar, place, gap, top, front) for n, bar in enumerate(found))]
    step = math.ceil(len(found) / LABELS)
    for number, bar in enumerate(found):
        if number % step == 0:
            drawn.append(_text(bar.label, LEFT + (number + 0.5) * place, HEIGHT - 24, "middle"))
    drawn.append(_text("section", LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 5, "middle"))
    return _svg(HEIGHT, what, *drawn)


def plane(
    points: Sequence[Point], this: Point | None, original: float | None, what: tuple[str, str]
) -> Markup:
    """Cuts as points, the best of them joined; a ring is this cut, a dashed line the original.

    `what` names both axes. The value axis begins at 0.
    """
    shown = [*points, *([this] if this else [])]
    ticks = scale(max([original or 0.0, *(point.y for point in shown)]))
    top = ticks[-1]
    drawn = [_grid(ticks)]
    for tenth in range(0, 11, 2):
        x = LEFT + tenth / 10 * (WIDTH - LEFT - RIGHT)
        drawn.append(_text(f"{10 * tenth} %", x, HEIGHT - 24, "end" if tenth == 10 else "middle"))
    if original is not None:
        y = _height(original, top)
        drawn.append(_line(LEFT, y, WIDTH - RIGHT, y, MARK, stroke_dasharray="6 5"))
    joint = " ".join(
        f"{_across(p.x):.1f},{_height(p.y, top):.1f}"
        for p in sorted((p for p in points if p.best), key=lambda p: p.x)
    )
    drawn.append(element("polyline", points=joint, fill="none", stroke=KEPT, stroke_width=2))
    drawn += [_dot(p, top, 5, KEPT if p.best else GONE, INK) for p in points]
    if this:
        drawn.append(_dot(this, top, 9, "none", MARK, stroke_width=3))
    drawn.append(_text(what[0], LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 5, "middle"))
    return _svg(HEIGHT, f"{what[1]} over {what[0]}", *drawn)


def scale(value: float) -> Sequence[float]:
    """The lines of a value axis that reaches this value: round numbers from 0 on."""
    if value <= 0:
        return 0.0, 1.0
    power = 10.0 ** math.floor(math.log10(value * (1 - 1e-9)))
    top, parts = next((n, p) for n, p in TOPS.items() if n * power >= value * (1 - 1e-9))
    return [top * power * part / parts for part in range(parts + 1)]


def _svg(height: int, title: str, *content: Markup) -> Markup:
    drawn = element(
        "svg",
        element("title", title),
        *content,
        viewBox=f"0 0 {WIDTH} {height}",
        role="img",
        aria_label=title,
    )
    return element("div", drawn, cls="chart")


def _grid(ticks: Sequence[float]) -> Markup:
    lines = []
    for value in ticks:
        y = _height(value, ticks[-1])
        lines.append(_line(LEFT, y, WIDTH - RIGHT, y, LINE))
        lines.append(_text(f"{value:g}", LEFT - 8, y + 4, "end"))
    return joined(*lines)


def _pair(number: int, bar: Bar, place: float, gap: float, top: float, front: float) -> Markup:
    """Both bars of a section under one title."""
    x, width = LEFT + number * place + gap / 2, place - gap
    sides = (bar.before, GONE, 1.0), (bar.after, KEPT, front)
    rects = []
    for value, colour, share in sides:
        y = _height(value, top)
        rects.append(
            element(
                "rect",
                x=f"{x + (1 - share) * width / 2:.2f}",
                y=f"{y:.2f}",
                width=f"{share * width:.2f}",
                height=f"{HEIGHT - BOTTOM - y:.2f}",
                fill=colour,
            )
        )
    return element("g", element("title", bar.title), *rects)


def _dot(point: Point, top: float, radius: int, fill: str, stroke: str, **more: object) -> Markup:
    drawn = element(
        "circle",
        cx=f"{_across(point.x):.1f}",
        cy=f"{_height(point.y, top):.1f}",
        r=radius,
        fill=fill,
        stroke=stroke,
        **more,
    )
    return element("g", element("title", point.title), drawn)


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, **more: object) -> Markup:
    places = {"x1": f"{x0:.1f}", "y1": f"{y0:.1f}", "x2": f"{x1:.1f}", "y2": f"{y1:.1f}"}
    return element("line", **places, stroke=colour, **more)


def _text(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor)


def _across(share: float) -> float:
    return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)


def _height(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP)
