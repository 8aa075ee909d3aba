"""The engines in which models are detected with and evaluated, in one list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from yolo.errors import DarknetError
from yolo.registry import Entry, registry

if TYPE_CHECKING:
    from yolo.inference.runner import Runner

TORCH, SUFFIX = "torch", ".onnx"


@dataclass(frozen=True)
class RunnerEntry(Entry):
    """`where` is a function of a Network that makes a Runner; `files` is one of an .onnx file."""

    files: str = ""


RUNNERS = registry(
    RunnerEntry(TORCH, "torch, on --device", "yolo.inference.runner:TorchRunner"),
    RunnerEntry(
        "onnxruntime",
        "onnxruntime on the CPU",
        "yolo.inference.onnx:in_onnxruntime",
        "yolo.inference.onnx:file_in_onnxruntime",
    ),
    RunnerEntry(
        "opencv",
        "OpenCV's DNN",
        "yolo.inference.opencv:OpenCVNetwork",
        "yolo.inference.onnx:file_in_opencv",
    ),
)


def open_runner(
    cfg: str | None,
    weights: str,
    engine: str | None = None,
    device: str | None = None,
    size: tuple[int, int] | None = None,
) -> Runner:
    """A model in an engine: torch by default, onnxruntime for an .onnx file.

    `weights` is a .weights, .pt or .onnx file; the last two need no cfg. `size`, width and height,
    replaces that of [net]. Raises DarknetError.
    """
    if weights.endswith(SUFFIX):
        return _of_file(cfg, weights, engine or "onnxruntime", device, size)
    from yolo.models.device import choose_device
    from yolo.models.load import load_model

    engine = engine or TORCH
    if device and engine != TORCH:
        raise DarknetError(f"--device {device}: only --engine {TORCH} has a choice of devices")
    network, _ = load_model(cfg, weights)
    network = network.resized(*size) if size else network
    if engine == TORCH:
        network.to(choose_device(device))
    runner: Runner = RUNNERS[engine].load()(network)
    return runner


def _of_file(
    cfg: str | None, path: str, engine: str, device: str | None, size: tuple[int, int] | None
) -> Runner:
    entry = RUNNERS[engine]
    for option, value in (("--cfg", cfg), ("--device", device), ("--size", size)):
        if value:
            raise DarknetError(f"{path}: an .onnx file goes without {option}")
    if not entry.files:
        able = " or ".join(name for name, other in RUNNERS.items() if other.files)
        raise DarknetError(f"{path}: {engine} reads no .onnx files: use --engine {able}")
    runner: Runner = RunnerEntry("", "", entry.files).load()(path)
    return runner
