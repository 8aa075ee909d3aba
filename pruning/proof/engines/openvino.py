"""OpenVINO, on the CPU, in float32."""

from __future__ import annotations

from pruning.proof.engines.onnx_file import OnnxEngine


class OpenVino(OnnxEngine):
    """Runs a model in OpenVINO."""

    name, program = "OpenVINO", "openvino"
    packages = ("openvino",)
    install = "openvino, and 'darknet-pruning[onnx]'"
