"""Pictures of the groups of Bayesian sections: the two piles, and the threshold between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pruning.bayesian.thresholds import Threshold, Values
from yolo.figures import KEPT

DROPPED = "#e69f00"  # orange beside blue: distinct for colour-blind eyes, too
LINE = "#333333"
BINS = 20  # as in the papers' code
LABEL = "log α, or the negative log-mode (ghs)"

Panel = tuple[str, Values, Threshold]  # title, values (G,), threshold


def histogram(values: Values, threshold: Threshold, title: str, label: str = LABEL) -> Figure:
    """How many groups have which value (G,), and where the threshold is; `label` names the value.

    Raises ValueError for no values.
    """
    if not len(values):
        raise ValueError("no group to draw")
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, values, threshold, np.histogram_bin_edges(values, BINS))
    axes.set_title(title, loc="left")
    axes.set_title(threshold.note, loc="right", fontsize="medium", color=LINE)
    axes.set_xlabel(label)
    axes.set_ylabel("groups")
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    return figure


def overview(panels: Sequence[Panel], label: str = LABEL) -> Figure:
    """The histograms of all sections on one page, over one axis; raises ValueError for none."""
    if not panels:
        raise ValueError("no section to draw")
    columns = min(len(panels), 3 if len(panels) <= 9 else 4)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(1 + 3 * columns, 1.2 + 1.9 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    edges = np.histogram_bin_edges(np.concatenate([values for _, values, _ in panels]), 2 * BINS)
    for axes, (title, values, threshold) in zip(grid, panels, strict=False):
        _draw(axes, values, threshold, edges)
        dropped = np.count_nonzero(values >= threshold.value)
        axes.set_title(f"{title}\n{dropped} of {len(values)} dropped", loc="left", fontsize=9)
        axes.tick_params(labelsize=8)
        margin = (edges[-1] - edges[0]) / 40
        axes.set_xlim(edges[0] - margin, edges[-1] + margin)
    for axes in grid[len(panels) :]:
        axes.remove()
    figure.supxlabel(label, fontsize="medium")
    figure.supylabel("groups", fontsize="medium")
    handles = [Patch(color=KEPT), Patch(color=DROPPED), Line2D([], [], color=LINE, linestyle="--")]
    names = ("kept", "dropped", "threshold")
    figure.legend(handles, names, frameon=False, loc="outside upper right", ncols=3)
    return figure


def _draw(axes: Axes, values: Values, threshold: Threshold, edges: Values) -> None:
    """Bars of the kept and the dropped, one on the other where a bin has both, and the line."""
    dropped = values >= threshold.value
    parts = values[~dropped], values[dropped]
    labels = [f"{name}: {len(part)}" for name, part in zip(("kept", "dropped"), parts, strict=True)]
    axes.hist(parts, edges.tolist(), stacked=True, color=(KEPT, DROPPED), rwidth=0.9, label=labels)
    # one that is far away would leave no room for the bars
    if abs(threshold.value - edges.mean()) <= edges[-1] - edges[0]:
        axes.axvline(threshold.value, color=LINE, linestyle="--", linewidth=1.2, label="threshold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
