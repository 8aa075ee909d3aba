"""Pictures of a sparse training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from pruning.sparse.penalty import SMALL
from yolo.figures import HEAT, KEPT, MARK

LEAST_GAMMA = 1e-5  # smaller γ are drawn together with those that are 0
BINS = 10  # of a histogram, for each power of ten


def gamma_history(history: Sequence[NDArray]) -> Figure:
    """The distribution of |γ| (γ,) after every epoch, and how many of them are small.

    Raises ValueError for an empty history.
    """
    if not history:
        raise ValueError("no epoch to draw")
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(1, 4))
    limits = [SMALL * gammas.max() for gammas in history]
    small = [(gammas <= limit).mean() for gammas, limit in zip(history, limits, strict=True)]
    epochs = np.arange(1, len(history) + 1)
    above.bar(epochs, small, 1, color=KEPT)
    above.set_ylim(0, 1)
    above.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    above.set_ylabel("small γ")
    above.set_title(
        f"{len(history[-1])} γ that can be pruned: {100 * small[-1]:.0f} % are below 1 % of "
        "the largest",
        loc="left",
    )
    _densities(below, history)
    edges = np.arange(len(history) + 1) + 0.5
    below.stairs(np.maximum(limits, LEAST_GAMMA), edges, baseline=None, color=MARK, linewidth=1.2)
    below.annotate(
        "1 % of the largest",
        (edges[0], max(limits[0], LEAST_GAMMA)),
        (6, 4),
        textcoords="offset points",
        color=MARK,
    )
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _densities(axes: Axes, history: Sequence[NDArray]) -> None:
    """A column of colour for every epoch; the lowest cell holds the γ that are 0."""
    top = np.log10(max(2.0 * max(gammas.max() for gammas in history), 1))
    low = np.log10(LEAST_GAMMA)
    edges = np.logspace(low, top, int(BINS * (top - low)) + 1)
    edges = np.concatenate(([LEAST_GAMMA / 10 ** (3 / BINS)], edges))
    clipped = (np.clip(gammas, edges[0], edges[-1]) for gammas in history)
    counts = np.stack([np.histogram(gammas, edges)[0] / len(gammas) for gammas in clipped], 1)
    mesh = axes.pcolormesh(
        np.arange(len(history) + 1) + 0.5,
        edges,
        counts,
        cmap=HEAT,
        norm=PowerNorm(0.5, 0, max(counts.max(), 1e-9)),
        rasterized=True,
    )
    axes.figure.colorbar(
        mesh, ax=axes, label="share of the γ in a cell", format=PercentFormatter(1, 0, " %")
    )
    axes.set_yscale("log")
    axes.axhline(LEAST_GAMMA, color="white", linewidth=2)
    ticks = 10.0 ** np.arange(low + 1, np.ceil(top))
    axes.set_yticks([float(edges[:2].prod() ** 0.5), *ticks], ["0", *(f"{t:g}" for t in ticks)])
    axes.minorticks_off()
    axes.set_ylabel("|γ|")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
