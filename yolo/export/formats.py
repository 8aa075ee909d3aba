"""The formats in which a network is exported, in one list."""

from __future__ import annotations

from dataclasses import dataclass

from yolo.registry import Entry, registry


@dataclass(frozen=True)
class Format(Entry):
    """An export format; `where` is a function (Network, Header, target) → files and their writers.

    The target, a path, ends with `suffix`; the names of other files are derived from it. One that
    `has_options` takes OnnxOptions as well.
    """

    suffix: str = ".weights"
    has_options: bool = False


FORMATS = registry(
    Format(
        "darknet",
        "Darknet, also hank-ai's 5; [ssd], [l2norm], image_mean= and image_scale= become other "
        "sections, or steps that OUT's .json describes",
        "yolo.export.darknet:writers",
    ),
    Format(
        "opencv",
        "OpenCV's DNN, likewise, with the sections after an [l2norm] in files of their own",
        "yolo.export.opencv:writers",
    ),
    Format(
        "onnx",
        "what onnxruntime, OpenCV 5, OpenVINO and TensorRT read",
        "yolo.export.onnx:writers",
        ".onnx",
        has_options=True,
    ),
    Format(
        "ncnn",
        "a .param and its .bin, converted from ONNX by pnnx (pip install pnnx ncnn)",
        "yolo.export.ncnn:writers",
        ".param",
        has_options=True,
    ),
)
