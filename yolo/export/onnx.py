"""Files for onnxruntime, OpenCV 5, OpenVINO, TensorRT and all else that reads ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolo.detections import gives_boxes
from yolo.errors import DarknetError
from yolo.export.onnx_graph import graph
from yolo.export.onnx_half import in_half
from yolo.export.onnx_metadata import Metadata
from yolo.export.onnx_outputs import (
    Decoded,
    GraphOutputs,
    Raw,
    ReadyDetections,
    Scores,
    check_boxes,
)
from yolo.export.options import HALF, NMS, RAW, OnnxOptions
from yolo.files import Writer, content_writer
from yolo.models.weights import Header
from yolo.network import Network


def writers(
    network: Network, header: Header, target: Path, options: OnnxOptions
) -> list[tuple[Path, Writer]]:
    """One .onnx file; raises DarknetError, CfgError for what ONNX can't express."""
    model = exported(network, header, options)
    return [(target, content_writer(model.SerializeToString()))]


def exported(network: Network, header: Header, options: OnnxOptions) -> Any:
    """The ModelProto of a network, a Bayesian one as its posterior means; raises DarknetError.

    Integers need images: pruning/quantization.
    """
    plain = network.plain()
    outputs = outputs_of(network.fused(), options)
    model = graph(outputs, options.batch, Metadata.of(plain, header, options))
    return in_half(model, plain) if options.precision == HALF else model


def outputs_of(network: Network, options: OnnxOptions) -> GraphOutputs:
    """The outputs of a network whose BN is folded, as options want them; raises DarknetError."""
    if options.boxes == RAW:
        return Raw(network)
    if not gives_boxes(network):
        if options.boxes == NMS:
            raise DarknetError(f"{network.cfg.path}: gives no boxes, so there is no NMS to add")
        return Scores(network)
    check_boxes(network)
    if options.boxes == NMS:
        return ReadyDetections(network, options.thresh, options.batch)
    return Decoded(network, options.layout)
