"""Darknet's part in a process of its own; see child.py."""

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Any

import numpy as np

# without it calls of Darknet's own error() would end in the C library's function of that name
OWN_SYMBOLS = getattr(os, "RTLD_DEEPBIND", 0)


def compute(folder: Path, job: dict[str, Any]) -> dict[str, np.ndarray]:
    """The output of the last section: job["sizes"] numbers, cut up by section."""
    try:
        library = ctypes.CDLL(job["library"], OWN_SYMBOLS)
        if job["pointers"]:
            load, predict = library.load_network_custom, library.network_predict_ptr
        else:
            load, predict = library.load_network, library.network_predict
    except (OSError, AttributeError) as error:
        raise RuntimeError(f"can't be loaded: {error}") from error
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
