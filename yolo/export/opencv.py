"""Files for OpenCV's DNN module, with one more part after each [l2norm], unknown to it."""

from __future__ import annotations

from pathlib import Path

from yolo.export.deployment import Deployment, Part
from yolo.export.split import split
from yolo.files import Writer
from yolo.models.weights import Header
from yolo.network import Network


def writers(network: Network, header: Header, target: Path) -> list[tuple[Path, Writer]]:
    """Each part's .cfg and .weights, and a .json for steps between them; raises CfgError."""
    form, tails = split(network)
    parts = [Part(target.stem, form)]
    for number, tail in enumerate(tails, 1):
        parts.append(Part(f"{target.stem}-norm{number}", tail.portable, tail))
    return Deployment(network, parts).writers(target.parent, header)
