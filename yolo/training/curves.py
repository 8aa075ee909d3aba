"""The picture of a training: losses and scores over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolo.figures import LINES, png
from yolo.training.records import Row

Corner = Literal["upper right", "lower right"]  # of the legend
LOSSES = ("loss", "box", "objectness", "class", "teacher")
SCORES = ("map", "f1", "top1", "topk", "iou")


def curves(history: Sequence[Row], name: str) -> bytes:
    """A PNG with the losses on the left and the scores on the right."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, history, LOSSES, "upper right")
    left.set_ylabel("loss per image")
    if any(row.get("loss", 0) > 0 for row in history):
        left.set_yscale("log")
    _draw(right, history, SCORES, "lower right")
    right.set_ylim(0, 1)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, max(len(history), 1) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_title(name, loc="left")
    return png(figure)


def _draw(axes: Axes, history: Sequence[Row], names: Sequence[str], corner: Corner) -> None:
    drawn, dot = False, "." if len(history) < 20 else None
    for name, colour in zip(names, LINES, strict=False):
        points = [(row["epoch"], row[name]) for row in history if name in row]
        if points and any(value for _, value in points):
            width = 2.0 if name in ("loss", "map", "top1") else 1.2
            axes.plot(
                *zip(*points, strict=True), color=colour, label=name, linewidth=width, marker=dot
            )
            drawn = True
    if drawn:
        axes.legend(frameon=False, fontsize="small", loc=corner)
