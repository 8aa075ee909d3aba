"""ONNX files that export.py and prune.py write: made, proven, then given to be written."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

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
    """Writers of the file, and a sentence on its proof, with up to 8 `pictures` or with noise.

    Raises DarknetError, ProofError.
    """
    from pruning.calibration.images import calibration_images
    from pruning.proof.exported import prove_onnx

    writers = format.load()(network, header, target, options)
    content = io.BytesIO()
    writers[0][1](content)
    images = calibration_images(pictures, network, PICTURES) if pictures else None
    proof = prove_onnx(network, options, content.getvalue(), images)
    return writers, f"{target.name} computes what the model does: {proof.value:.1e} {proof.note}"


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
