"""ONNX files that export.py and prune.py write: made, proven, then given to be written."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pruning.registry import EXPORT_PROOFS
from yolo.export.formats import FORMATS, Format
from yolo.export.options import FLOAT, HALF, INT8

if TYPE_CHECKING:
    from yolo.export.options import OnnxOptions
    from yolo.files import Writer
    from yolo.models.weights import Header
    from yolo.network import Network

PICTURES = 8  # of the proof
CALIBRATION = 32  # pictures for 8-bit integers
# what prune.py --export takes: a format, the precision, and what the name of the file ends with
EXPORTS = {
    **{name: (name, FLOAT, "") for name, entry in FORMATS.items() if entry.has_options},
    "half": ("onnx", HALF, "-half"),
    "int8": ("onnx", INT8, "-int8"),
}


def export_path(kind: str, stem: Path) -> Path:
    """The file that `kind` of EXPORTS makes beside a result."""
    name, _, ending = EXPORTS[kind]
    return stem.with_name(f"{stem.name}{ending}{FORMATS[name].suffix}")


def exported_files(
    kind: str, network: Network, header: Header, stem: Path, pictures: str | None, data: str | None
) -> tuple[list[tuple[Path, Writer]], str]:
    """Writers of what `kind` of EXPORTS makes of a result, and what their proof says.

    `data` gives the names of the classes. Raises DarknetError, ProofError.
    """
    from yolo.export.options import OnnxOptions

    name, precision, _ = EXPORTS[kind]
    target = export_path(kind, stem)
    options = with_names(OnnxOptions(precision=precision), network, data, None)
    if precision == INT8:
        assert pictures
        return integer_files(network, header, target, options, pictures, None, None)
    return proven_files(FORMATS[name], network, header, target, options, pictures)


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


def integer_files(
    network: Network,
    header: Header,
    target: Path,
    options: OnnxOptions,
    calibrate: str,
    data: str | None,
    drop: float | None,
) -> tuple[list[tuple[Path, Writer]], str]:
    """The writer of an .onnx file in 8 bits, and what is to be said of it.

    With a `drop`, of mAP on `data`, sections stay in floats until it is kept. Raises DarknetError,
    ProofError.
    """
    from common.command import Steps
    from pruning.calibration.images import calibration_images
    from pruning.quantization.control import controlled
    from pruning.quantization.quantize import Quantizer
    from pruning.quantization.score import FileScore
    from yolo.files import content_writer

    score = FileScore(network, data) if data and drop is not None else None
    images = calibration_images(calibrate, network, CALIBRATION)
    steps = Steps()
    quantizer = Quantizer(network, header, options, images, steps)
    if score and drop is not None:
        best = controlled(quantizer, score, drop, steps)
        content, note = best.content, str(best)
    else:
        content, off = quantizer.content(), quantizer.deviation()
        note = f"differs from the model's scores by {off:.1%} (L2) in onnxruntime"
    steps.close()
    return [(target, content_writer(content))], note


def with_names(
    options: OnnxOptions, network: Network, data: str | None, names: str | None
) -> OnnxOptions:
    """The options with the names of the classes; raises DarknetError for a wrong number."""
    from yolo.datasets.names import class_names
    from yolo.detections import class_count

    labels = class_names(data, names, class_count(network), network.cfg.path)
    return replace(options, names=labels)
