"""Files for AlexeyAB's Darknet."""

from __future__ import annotations

from pathlib import Path

from yolo.export.deployment import Deployment, Part
from yolo.export.portable import portable
from yolo.files import Writer
from yolo.models.weights import Header
from yolo.network import Network


def writers(network: Network, header: Header, target: Path) -> list[tuple[Path, Writer]]:
    """A .cfg and .weights, and a .json for steps that they can't express; raises CfgError."""
    made = Deployment(network, [Part(target.stem, portable(network))])
    return made.writers(target.parent, header)
