"""What can be chosen of an exported ONNX file."""

from __future__ import annotations

from dataclasses import dataclass

from yolo.registry import Entry, registry

RAW, DECODED, NMS = "raw", "decoded", "nms"
BOXES = registry(
    Entry(RAW, "the inputs of the heads, one output each: conv_81 is that of section 81"),
    Entry(DECODED, "all boxes with their scores, for NMS in your program"),
    Entry(NMS, "ready detections: image, class, confidence, centre x, y, width, height"),
)
LAYOUTS = registry(
    Entry(
        "darknet",
        "boxes (N, boxes, 5 + classes): x, y, w, h from 0 to 1, objectness, classes",
        "yolo.export.layouts:DarknetLayout",
    ),
    Entry(
        "confs-boxes",
        "confs (N, boxes, classes), boxes (N, boxes, 1, 4): corners from 0 to 1, as hank-ai's",
        "yolo.export.layouts:ConfsBoxes",
    ),
    Entry(
        "ultralytics",
        "output0 (N, 4 + classes, boxes): x, y, w, h in pixels, confidences",
        "yolo.export.layouts:Ultralytics",
    ),
)
FLOAT, HALF, INT8 = "float32", "float16", "int8"  # precisions


@dataclass(frozen=True)
class OnnxOptions:
    """Outputs and batch of an ONNX file, and what its metadata says.

    `batch` None lets the number of images vary; `thresh` is the least confidence of ready
    detections, in [0, 1]; `names` are those of the classes; `precision` is that of the weights.
    """

    boxes: str = DECODED
    layout: str = "darknet"
    batch: int | None = 1
    thresh: float = 0.25
    names: tuple[str, ...] = ()
    license: str = ""
    precision: str = FLOAT
