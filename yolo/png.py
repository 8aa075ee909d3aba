"""Pictures as files."""

from io import BytesIO

from matplotlib.figure import Figure


def png(figure: Figure) -> bytes:
    """The picture as a PNG file."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()
