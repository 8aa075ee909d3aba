"""Runs one engine in a process of its own, so that a crash or an exit takes nothing with it.

`python child.py FOLDER`: the folder holds model.cfg, model.weights, input.npy and job.json; the
child leaves result.npz there, or error.txt with what can follow the engine's name in a sentence.
It imports nothing of this project, so that it starts fast.
"""

import contextlib
import ctypes
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

Job = dict[str, Any]
Arrays = dict[str, np.ndarray]
ASSERTION = -215  # OpenCV's code for a failed assertion, whose text is a C++ expression
LONGEST = 100  # characters of a reason
# without it calls of Darknet's own error() would end in the C library's function of that name
OWN_SYMBOLS = getattr(os, "RTLD_DEEPBIND", 0)


class Failure(Exception):
    """The message follows the engine's name in a sentence."""


def opencv(folder: Path, job: Job) -> Arrays:
    """The blobs that OpenCV makes for the sections job["layers"]; job["runs"]: times in ms.

    ms (runs,) of everything, of_layers (runs, layers) of OpenCV's own layers, and their names.
    """
    try:
        import cv2
    except ImportError as error:
        raise Failure(f"can't be imported: {error}") from error
    if not hasattr(cv2.dnn, "readNetFromDarknet"):
        raise Failure(f"{cv2.__version__} reads no Darknet files, versions before 5 do")
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
        raise Failure(f"can't {doing} it: {_reason(error)}") from error
    return {str(index): blob for index, blob in zip(job["layers"], blobs, strict=True)}


def _reason(error: Exception) -> str:
    # without these attributes it is a C++ exception that OpenCV doesn't know
    lines = str(getattr(error, "err", error)).splitlines()
    text = " ".join(line.removeprefix(">").strip() for line in lines).strip()
    text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return f"its check fails: {text}" if getattr(error, "code", 0) == ASSERTION else text


def _times(net: Any, runs: int, seconds: float) -> Arrays:
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
    found = None
    for name in net.getLayerNames():
        kind, _, number = name.rpartition("_")
        if number.isdigit() and int(number) - (kind in activations) == index:
            found = name
    if found is None:
        raise Failure(f"makes no output for section {index}")
    return found


def darknet(folder: Path, job: Job) -> Arrays:
    """The output of the last section: job["sizes"] numbers, cut up by section."""
    try:
        library = ctypes.CDLL(job["library"], OWN_SYMBOLS)
        if job["pointers"]:
            load, predict = library.load_network_custom, library.network_predict_ptr
        else:
            load, predict = library.load_network, library.network_predict
    except (OSError, AttributeError) as error:
        raise Failure(f"can't be loaded: {error}") from error
    with contextlib.suppress(ValueError):
        ctypes.c_int.in_dll(library, "gpu_index").value = -1  # the CPU, as -nogpu does
    load.restype = ctypes.c_void_p
    files = [os.fsencode(folder / name) for name in ("model.cfg", "model.weights")]
    # clear=0, and where the function takes it, batch=1
    net = load(*files, 0, 1) if job["pointers"] else load(*files, 0)
    predict.restype = ctypes.POINTER(ctypes.c_float)
    predict.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    x = np.load(folder / "input.npy")
    total = sum(job["sizes"].values())
    flat = np.ctypeslib.as_array(predict(net, x.ctypes.data), (total,)).copy()
    parts = np.split(flat, np.cumsum(list(job["sizes"].values()))[:-1])
    return dict(zip(job["sizes"], parts, strict=True))


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    try:
        arrays = {"opencv": opencv, "darknet": darknet}[job["engine"]](folder, job)
    except Failure as error:
        (folder / "error.txt").write_text(str(error))
        return
    np.savez(folder / "partial.npz", **arrays)  # type: ignore[arg-type]
    os.replace(folder / "partial.npz", folder / "result.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
