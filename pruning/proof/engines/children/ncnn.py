"""ncnn's part in a process of its own; see child.py."""

import time
from pathlib import Path
from typing import Any

import numpy as np


def compute(folder: Path, job: dict[str, Any]) -> dict[str, np.ndarray]:
    """The blobs job["blobs"] of model.param for the blob `images`; job["runs"]: times in ms."""
    try:
        import ncnn
    except ImportError as error:
        raise RuntimeError(f"can't be imported: {error}") from error
    net = ncnn.Net()
    net.opt.num_threads = job["threads"]
    if not job["runs"]:
        for name in (
            "use_fp16_packed",
            "use_fp16_storage",
            "use_fp16_arithmetic",
            "use_bf16_storage",
            "use_winograd_convolution",  # its rounding noise is larger
        ):
            setattr(net.opt, name, False)
    if net.load_param(str(folder / "model.param")) or net.load_model(str(folder / "model.bin")):
        raise RuntimeError("can't read it")
    x = np.load(folder / "input.npy")[0]
    arrays = _run(ncnn, net, x, job["blobs"])
    if job["runs"]:
        return _times(ncnn, net, x, job)
    return arrays


def _run(ncnn: Any, net: Any, x: np.ndarray, blobs: list[str]) -> dict[str, np.ndarray]:
    extractor = net.create_extractor()
    extractor.input("images", ncnn.Mat(x).clone())
    arrays = {}
    for name in blobs:
        code, blob = extractor.extract(name)
        if code:
            raise RuntimeError(f"can't compute {name}: it returns {code}")
        arrays[name] = np.array(blob)
    return arrays


def _times(ncnn: Any, net: Any, x: np.ndarray, job: dict[str, Any]) -> dict[str, np.ndarray]:
    times: list[float] = []
    end = time.perf_counter() + job["seconds"]
    while len(times) < job["runs"] or time.perf_counter() < end:
        start = time.perf_counter()
        _run(ncnn, net, x, job["blobs"])
        times.append(1000 * (time.perf_counter() - start))
    return {"ms": np.array(times), "version": np.array(ncnn.__version__)}
