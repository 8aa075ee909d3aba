"""OpenCV's part in a process of its own; see child.py."""

import time
from pathlib import Path
from typing import Any

import numpy as np

ASSERTION = -215  # OpenCV's code for a failed assertion, whose text is a C++ expression
LONGEST = 100  # characters of a reason


def compute(folder: Path, job: dict[str, Any]) -> dict[str, np.ndarray]:
    """The blobs that OpenCV makes for the sections job["layers"]; job["runs"]: times in ms.

    ms (runs,) of everything, of_layers (runs, layers) of OpenCV's own layers, and their names.
    """
    try:
        import cv2
    except ImportError as error:
        raise RuntimeError(f"can't be imported: {error}") from error
    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        raise RuntimeError(f"{cv2.__version__} reads no Darknet files, versions before 5 do")
    cv2.setNumThreads(job["threads"])
    doing = "read"
    try:
        net = cv2.dnn.readNetFromDarknet(str(folder / "model.cfg"), str(folder / "model.weights"))
        net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
        doing = "run"
        net.setInput(np.load(folder / "input.npy"))
        if job["runs"]:
            return {
                **_times(net, job["runs"], job["seconds"]),
                "version": np.array(cv2.__version__),
            }
        net.enableWinograd(False)  # its rounding noise is up to ten times larger
        names = [_blob(net, index, job["activations"]) for index in job["layers"]]
        blobs = net.forward(names)
    except cv2.error as error:
        raise RuntimeError(f"can't {doing} it: {_reason(error)}") from error
    return {str(index): blob for index, blob in zip(job["layers"], blobs, strict=True)}


def _reason(error: Exception) -> str:
    # without these attributes it is a C++ exception that OpenCV doesn't know
    lines = str(getattr(error, "err", error)).splitlines()
    text = " ".join(line.removeprefix(">").strip() for line in lines).strip()
    text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return f"its check fails: {text}" if getattr(error, "code", 0) == ASSERTION else text


def _times(net: Any, runs: int, seconds: float) -> dict[str, np.ndarray]:
    import cv2

    outputs = net.getUnconnectedOutLayersNames()
    net.forward(outputs)
    times: list[float] = []
    of_layers = []
    end = time.perf_counter() + seconds
    while len(times) < runs or time.perf_counter() < end:
        start = time.perf_counter()
        net.forward(outputs)
        times.append(1000 * (time.perf_counter() - start))
        _, ticks = net.getPerfProfile()
        of_layers.append(1000 * np.ravel(ticks) / cv2.getTickFrequency())
    names = np.array(net.getLayerNames())
    return {"ms": np.array(times), "of_layers": np.array(of_layers), "names": names}


def _blob(net: Any, index: int, activations: list[str]) -> str:
    """The last blob of a section: OpenCV counts an activation as if the next section made it."""
    blob = None
    for name in net.getLayerNames():
        kind, _, number = name.rpartition("_")
        if number.isdigit() and int(number) - (kind in activations) == index:
            blob = name
    if blob is None:
        raise RuntimeError(f"returned no output for section {index}")
    return blob
