"""Colours that all pictures share, and the PNG writer."""

from io import BytesIO

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

KEPT, GONE = "#1b6ca8", "#d5dde5"  # kept and removed channels
MARK = "#c8553d"
LINES = ("#1b6ca8", "#e07b39", "#4a9d5b", "#b0413e", "#7d5ba6")
HEAT = LinearSegmentedColormap.from_list("heat", ["white", "#8fb8d8", KEPT, "#0b2d48"])


def png(figure: Figure) -> bytes:
    """The picture as a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
