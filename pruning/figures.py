"""Pictures of a cut."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pruning.channels import ChannelGraph
from pruning.report import Report

KEPT, GONE = "#1b6ca8", "#d5dde5"


def kept_channels(graph: ChannelGraph, report: Report) -> Figure:
    """Bars of the channels of every section with filters: kept in front of what was there."""
    after = {layer.index: layer.after for layer in report.layers}
    indices = graph.producers
    before = [graph.network.layers[i].out_shape.channels for i in indices]
    kept = [after.get(i, width) for i, width in zip(indices, before, strict=True)]
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(indices))
    axes.bar(places, before, color=GONE, width=0.85, label="cut")
    axes.bar(places, kept, color=KEPT, width=0.85, label="kept")
    axes.set_xlabel("section")
    axes.set_ylabel("channels")
    axes.set_xlim(-0.6, len(indices) - 0.4)
    axes.xaxis.set_major_locator(MaxNLocator(24, integer=True))
    ticks = [int(t) for t in axes.get_xticks() if 0 <= t < len(indices)]
    axes.set_xticks(ticks, [str(indices[t]) for t in ticks])
    left = report.after.parameters / report.before.parameters
    name = Path(report.cfg).stem
    axes.set_title(
        f"{name}, {report.strategy} {report.percent:g}: {left:.0%} of the parameters, "
        f"{report.after.macs / report.before.macs:.0%} of the MACs",
        loc="left",
    )
    axes.legend(frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def png(figure: Figure) -> bytes:
    """The picture as a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
