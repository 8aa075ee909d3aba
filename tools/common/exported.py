"""ONNX files that export.py and prune.py write: made, proven, then given to be written."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pruning.registry import EXPORT_PROOFS
from yolo.errors import DarknetError
from yolo.export.formats import Format

if TYPE_CHECKING:
    from yolo.export.options import OnnxOptions
    from yolo.files import Writer
    from yolo.models.weights import Header
    from yolo.network import Network

PICTURES = 8  # of the proof


def proven_files(
    format: Format,
    network: Network,
    header: Header,
    target: Path,
    options: OnnxOptions,
    pictures: str | None,
) -> tuple[list[tuple[Path, Writer]], str]:
    """Writers of the files, and what their proof says, with up to 8 `pictures` or with noise.

    Raises DarknetError, ProofError.
    """
    from pruning.calibration.images import calibration_images

    writers: list[tuple[Path, Writer]] = format.load()(network, header, target, options)
    contents = {}
    for path, write in writers:
        write(content := io.BytesIO())
        contents[path.suffix] = content.getvalue()
    images = calibration_images(pictures, network, PICTURES) if pictures else None
    proof = EXPORT_PROOFS[format.name].load()(network, options, contents, images)
    return writers, f"computes what the model does, to {proof.value:.1e} {proof.note}"


def with_names(
    options: OnnxOptions, network: Network, data: str | None, names: str | None
) -> OnnxOptions:
    """The options with the names of the classes; raises DarknetError for a wrong number."""
    from yolo.datasets.names import class_names
    from yolo.detections import class_count

    found, classes = class_names(data, names), class_count(network)
    if found and len(found) != classes:
        where = data or names
        raise DarknetError(
            f"{network.cfg.path}: has {classes} classes, but {where} names {len(found)}"
        )
    return replace(options, names=found)
