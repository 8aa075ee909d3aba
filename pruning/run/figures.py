"""Pictures of a cut, of a scan, and of cuts side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pruning.cut.folding import Fold
from pruning.cut.shortened import Shortened
from pruning.graph.rules import has_filters
from pruning.measure.head_error import ERROR
from pruning.registry import RECOVERIES
from pruning.run.comparison import Comparison
from pruning.run.report import Report, counted
from pruning.selection.ranking import Ranked
from pruning.selection.sensitivity import SHARES, Scan
from yolo.figures import GONE, HEAT, KEPT, LINES, MARK

# of a histogram of scores, and the share of the highest from which on they are resolved
SCORE_BINS, LEAST_SCORE = 60, 1e-6


def kept_channels(shortened: Shortened, report: Report) -> Figure:
    """Bars of the channels of every section with filters: kept in front of what was there."""
    layers = shortened.original.layers
    after = dict.fromkeys(range(len(layers)) - shortened.index_map.keys(), 0)
    after |= {layer.index: layer.after for layer in report.layers}
    indices = [i for i, layer in enumerate(layers) if has_filters(layer) and not layer.owner]
    before = [layers[i].out_shape.channels for i in indices]
    kept = [after.get(i, width) for i, width in zip(indices, before, strict=True)]
    figure, axes = _bars(indices, before, kept, ("cut", "kept"), 0.85)
    axes.set_ylabel("channels")
    share = report.after.cost.parameters / report.before.cost.parameters
    axes.set_title(
        f"{_title(report)}: {share:.0%} of the parameters, "
        f"{report.after.cost.macs / report.before.cost.macs:.0%} of the MACs",
        loc="left",
    )
    axes.legend(frameon=False, loc="upper left")
    return figure


def section_latencies(report: Report) -> Figure:
    """Bars of the milliseconds of every section, after the cut in front of before.

    Raises ValueError where they weren't measured.
    """
    times = report.times
    if times is None:
        raise ValueError("no latencies to draw")
    before = [section.before for section in times.sections]
    after = [section.after or 0.0 for section in times.sections]
    indices = [section.index for section in times.sections]
    figure, axes = _bars(indices, before, after, ("before", "after"), 0.5)
    axes.set_ylabel("ms")
    # what an engine does beside the sections counts, too
    totals = [side.profile.ms for side in (report.before, report.after) if side.profile]
    change = f"{totals[0]:.1f} → {totals[1]:.1f} ms" if len(totals) == 2 else ""
    threads = counted(times.threads, "thread")
    axes.set_title(f"{_title(report)}: {change} in {times.engine}, {threads}", loc="left")
    axes.legend(frameon=False, loc="upper right")
    return figure


def ranked_scores(ranked: Ranked, fold: Fold, report: Report) -> Figure:
    """Histogram of the scores of all that could go, what stayed on top of what went.

    The line has the fewest on its wrong side: those were held by a floor or a rounding, or gave way
    to a constant channel. Raises ValueError where nothing could go.
    """
    if not ranked.drawable:
        raise ValueError("no scores to draw")
    scores = np.concatenate([c.scores for c in ranked.candidates])
    stayed = np.concatenate([fold.alive[c.ranked].all(0) for c in ranked.candidates])
    highest = scores[np.isfinite(scores)].max()
    least = max(highest * LEAST_SCORE, np.finfo(float).tiny)
    bins = np.geomspace(least, max(highest, 2 * least), SCORE_BINS + 1).tolist()
    drawn = scores.clip(least, bins[-1])
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.add_subplot()
    parts, labels, colours = [drawn[~stayed], drawn[stayed]], ["cut", "kept"], [GONE, KEPT]
    axes.hist(parts, bins, stacked=True, color=colours, label=labels)
    if not stayed.all():
        ordered = np.argsort(drawn, kind="stable")
        wrong = np.cumsum(np.where(stayed[ordered], 1, -1))
        threshold = float(drawn[ordered[wrong.argmin()]])
        axes.axvline(threshold, color=MARK, linewidth=1.2, label=f"threshold {threshold:.3g}")
    axes.set_xscale("log")
    axes.set_xlabel(f"score: {ranked.name}; those below {least:.1e} are drawn there")
    axes.set_ylabel("groups of channels")
    axes.set_title(_title(report), loc="left")
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _title(report: Report) -> str:
    return f"{Path(report.cfg).stem}, {report.strategy}, {report.asked}"


def _bars(
    indices: Sequence[int],
    behind: Sequence[float],
    front: Sequence[float],
    labels: tuple[str, str],
    width: float,
) -> tuple[Figure, Axes]:
    """Two bars a section, one in front of the other; the front ones are so wide."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.add_subplot()
    positions = range(len(indices))
    axes.bar(positions, behind, color=GONE, width=0.85, label=labels[0])
    axes.bar(positions, front, color=KEPT, width=width, label=labels[1])
    axes.set_xlabel("section")
    axes.set_xlim(-0.6, len(indices) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(24, integer=True))
    ticks = [int(t) for t in axes.get_xticks() if 0 <= t < len(indices)]
    axes.set_xticks(ticks, [str(indices[t]) for t in ticks])
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def sensitivities(scan: Scan, name: str) -> Figure:
    """Losses with shares of each family, a column each, above the MACs that go with all of it.

    Families are named by the sections that they are channels of.
    """
    curves = [curve for _, curve in sorted(scan.curves.items()) if curve.losses]
    losses = np.array([[max(curve.at(share), 0) for curve in curves] for share in SHARES])
    width = min(max(6.5, 2.6 + 0.3 * len(curves)), 11.0)
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    edges = np.arange(len(curves) + 1) - 0.5
    mesh = above.pcolormesh(
        edges,
        np.arange(len(SHARES) + 1) - 0.5,
        losses.reshape(len(SHARES), -1),
        cmap=HEAT,
        norm=PowerNorm(0.5, 0, max(losses.max(initial=0), 1e-9)),
        edgecolors="white",
        linewidth=0.5,
    )
    lost = "" if scan.score_name == ERROR else f", lost of {scan.score:.3f}"
    figure.colorbar(mesh, ax=[above, below], label=scan.score_name + lost)
    above.set_yticks(range(len(SHARES)), [f"{100 * share:.0f} %" for share in SHARES])
    above.set_ylabel("of what can go")
    above.set_title(f"{name}: what is lost where one family of channels is cut", loc="left")
    below.bar(range(len(curves)), [1e-6 * curve.most * curve.macs for curve in curves], color=KEPT)
    below.set_ylabel("million MACs")
    below.set_xlabel("first section of a family")
    below.set_xlim(-0.5, max(len(curves), 1) - 0.5)
    step = max(-(-len(curves) // 40), 1)
    names = [str(curve.sections[0]) for curve in curves]
    below.set_xticks(range(0, len(curves), step), names[::step], rotation=90 * (len(curves) > 20))
    below.spines[["top", "right"]].set_visible(False)
    return figure


COLOURS = (*LINES, "#8c6d46", "#d16ba5", "#6b7280", "#2aa7a7", "#b8a622", "#1f2a37")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK = "#444444"
DASHES: tuple[dict[str, Any], ...] = (
    {"linestyle": (0, (1, 2.5)), "fillstyle": "none"},
    {"linestyle": (0, (4, 2)), "fillstyle": "none"},
    {"linestyle": (0, (5, 1.5, 1, 1.5)), "fillstyle": "bottom"},
    {"linestyle": "-", "fillstyle": "full"},
)
RECOVERED = dict(zip(RECOVERIES, cycle(DASHES), strict=False))


def compared_cuts(comparison: Comparison, name: str) -> Figure:
    """Scores over what is left of the MACs, and over milliseconds where they are known.

    A line for every strategy (its marker), importance (its colour) and recovery (its dashes).
    """
    timed = comparison.original_ms is not None
    figure = Figure(figsize=(12.5 if timed else 8.5, 4.8), layout="constrained")
    panels = figure.subplots(1, 2 if timed else 1, sharey=True, squeeze=False)[0]
    lines = comparison.lines()
    styles = _Styles(*([line[n] for line in lines] for n in range(3)))
    left, right = panels[0], panels[-1]
    for line, cuts in lines.items():
        style = styles.of(*line)
        scores = [cut.score for cut in cuts]
        left.plot([cut.cost.macs / comparison.original.cost.macs for cut in cuts], scores, **style)
        if timed:
            # by MACs, too: times that don't follow them are seen as what they are
            right.plot([comparison.ms(cut) or np.nan for cut in cuts], scores, **style)
    left.set_title(f"{name}, {counted(sum(map(len, lines.values())), 'cut')}", loc="left")
    left.set_ylabel(comparison.score_name)
    left.set_xlabel("MACs, of the original's")
    left.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    if timed:
        right.set_xlabel(f"ms in OpenCV, the original's: {comparison.original_ms:.1f}")
    for axes in panels:
        if comparison.original.score is not None:
            axes.axhline(comparison.original.score, color=MARK, linestyle="--", linewidth=1)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=styles.legend(), frameon=False, loc="outside right upper")
    return figure


class _Styles:
    """How the line of a strategy, an importance and a recovery looks."""

    def __init__(self, *names: Sequence[str]) -> None:
        strategies, importances, recoveries = (dict.fromkeys(values) for values in names)
        self._markers = dict(zip(strategies, cycle(MARKERS), strict=False))
        self._colours = dict(zip(importances, cycle(COLOURS), strict=False))
        self._recoveries = {name: RECOVERED[name] for name in recoveries}

    def of(self, strategy: str, importance: str, recovery: str) -> dict[str, Any]:
        """Keyword arguments of its plot."""
        return {
            "marker": self._markers[strategy],
            "color": self._colours[importance],
            **self._recoveries[recovery],
            "markersize": 5,
            "linewidth": 1.4,
            "alpha": 0.85,
        }

    def legend(self) -> list[Line2D]:
        """Handles for markers, colours and dashes, under headings, and for the original."""
        handles = [Line2D([], [], color=MARK, linestyle="--", linewidth=1, label="original")]
        meanings: dict[str, dict[str, dict[str, Any]]] = {
            "strategy": {
                name: {"marker": marker, "linestyle": "none"}
                for name, marker in self._markers.items()
            },
            "importance": {
                name: {"color": colour, "linewidth": 3} for name, colour in self._colours.items()
            },
            "recovery": {
                name: {"marker": "o", "markersize": 5, **style}
                for name, style in self._recoveries.items()
            },
        }
        for title, entries in meanings.items():
            handles.append(Line2D([], [], linestyle="none", label=f"\n{title}"))
            for name, style in entries.items():
                handles.append(Line2D([], [], **{"color": INK, "label": name, **style}))
        return handles
