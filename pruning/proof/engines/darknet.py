"""A Darknet library: pjreddie's as Debian packages it, or a build of AlexeyAB's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pruning.proof.engines.base import (
    LIMIT,
    EngineError,
    outputs,
    prepared,
    run_child,
    with_variances,
)
from yolo.cfg import Cfg
from yolo.export.portable import portable
from yolo.files import read_bytes
from yolo.layers import Layer
from yolo.layers.convolutional import BN_EPSILON
from yolo.layers.pooling import MaxPool
from yolo.network import Network

LIBRARY = "libdarknet.so"
DEBIAN = Path("/usr/lib/darknet") / LIBRARY
BESIDE = ("", "../lib/darknet", "../lib")  # where a binary's library may be
LANES = 8  # columns that AVX code computes at once
EPSILON = 1e-6  # pjreddie's divides by sqrt(variance) + 1e-6


class Darknet:
    """Runs a model in a Darknet library; raises EngineError for a file that isn't one."""

    flaw = "AVX builds compute wide max pools wrongly"

    def __init__(self, path: str | None = None, limit: float = LIMIT) -> None:
        self.library, self.limit = find_darknet(path), limit
        symbols = read_bytes(self.library, "library")
        if b"network_predict" not in symbols or b"load_network" not in symbols:
            raise EngineError(f"{self.library} is not a Darknet library")
        # functions that take a pointer to the network: AlexeyAB's takes the network itself
        self.pointers = b"network_predict_ptr" in symbols
        self.name = _name(symbols)

    def run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """See Engine.

        Darknet's output is that of its last section, so a [route] is added: it copies its
        sources behind one another, also where their widths and heights differ.
        """
        form = prepared(self.name, lambda: portable(network, dilation=self.pointers))
        index_map = {layer: form.places[layer] for layer in layers}
        arrays = self._run(form.cfg_like(cfg), form.network, x, list(index_map.values()))
        return {layer: arrays[index] for layer, index in index_map.items()}

    def flawed(self, network: Network) -> tuple[int, ...]:
        """See Flawed: only a build without AVX computes these max pools rightly."""
        if not self.pointers:
            return ()
        return tuple(i for i, layer in enumerate(network.layers) if _misses_taps(layer))

    def _run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: list[int]
    ) -> dict[int, np.ndarray]:
        if not layers:
            return {}
        single = {"batch": 1, "subdivisions": 1, "time_steps": 1}
        route = f"[route]\nlayers={','.join(map(str, layers))}\n"
        job = {
            "library": str(self.library),
            "pointers": self.pointers,
            "sizes": {str(i): network.layers[i].out_shape.elements for i in layers},
        }
        written = cfg.edited({-1: single}).appended(route)
        arrays = run_child(
            self.name, written, self._aligned(network), x, "darknet", job, self.limit
        )
        return outputs(self.name, network, layers, arrays)

    def _aligned(self, network: Network) -> Network:
        if self.pointers:
            return network
        return with_variances(network, lambda v: (torch.sqrt(v + BN_EPSILON) - EPSILON) ** 2)


def _name(symbols: bytes) -> str:
    if b"network_predict_ptr" not in symbols:
        return "pjreddie's Darknet"
    # a namespace of C++
    return "hank-ai's Darknet" if b"N7Darknet" in symbols else "AlexeyAB's Darknet"


def _misses_taps(layer: Layer) -> bool:
    """True for a pool of which forward_maxpool_layer_avx() of gemm.c computes columns wrongly.

    It takes columns in blocks, and a tap left of the map away from the whole block. Narrow maps
    are computed without blocks.
    """
    if not isinstance(layer, MaxPool) or layer.depth or layer.padding < 2:
        return False
    width, steps = layer.out_shape.width, {*layer.stride}
    pairs = steps == {2} and layer.size == 2 and width > LANES // 2
    return pairs or (steps == {1} and width > layer.size + LANES - 1)


def find_darknet(path: str | None = None) -> Path:
    """The library that `path`, a library or a binary, stands for.

    Without a path: that of the `darknet` on PATH, else Debian's. Raises EngineError.
    """
    if path is None:
        binary = shutil.which("darknet")
        default = (_beside(Path(binary)) if binary else None) or DEBIAN
        if not default.is_file():
            raise EngineError(f"no Darknet library found: install one, or name its {LIBRARY}")
        return default
    file = Path(path)
    if not file.is_file():
        raise EngineError(f"{path}: no such file, expected a {LIBRARY}")
    if any(suffix in (".so", ".dylib", ".dll") for suffix in file.suffixes):
        return file.resolve()
    if b"detector" not in read_bytes(file, "program"):  # a word that every Darknet takes
        raise EngineError(f"{path} is neither a Darknet library nor a Darknet program")
    library = _beside(file)
    if library is None:
        raise EngineError(f"{path}: no {LIBRARY} is near this program, name the library instead")
    return library


def _beside(binary: Path) -> Path | None:
    folder = binary.resolve().parent
    # beside any other folder than bin, ../lib would be some other program's
    folders = BESIDE if folder.name == "bin" else BESIDE[:1]
    libraries = ((folder / beside / LIBRARY).resolve() for beside in folders)
    return next((library for library in libraries if library.is_file()), None)
