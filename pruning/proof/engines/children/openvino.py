"""OpenVINO's part in a process of its own; see child.py."""

from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 100  # characters of a reason


def compute(folder: Path, job: dict[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of model.onnx in order, by job["layers"]."""
    try:
        import openvino
    except ImportError as error:
        raise RuntimeError(f"can't be imported: {error}") from error
    # by default it may choose bfloat16
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": job["threads"]}
    try:
        core = openvino.Core()
        model = core.compile_model(core.read_model(folder / "model.onnx"), "CPU", options)
        outputs = model({0: np.load(folder / "input.npy")})
    except Exception as error:  # its errors have no common class
        raise RuntimeError(f"can't run it: {' '.join(str(error).split())[:LONGEST]}") from error
    return {str(index): outputs[number] for number, index in enumerate(job["layers"])}
