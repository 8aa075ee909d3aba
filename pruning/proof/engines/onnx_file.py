"""The common part of engines that read an ONNX file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from pruning.proof.engines.base import LIMIT, EngineError, outputs, run_program
from yolo.cfg import Cfg
from yolo.errors import DarknetError
from yolo.export.onnx_graph import graph
from yolo.export.onnx_outputs import Raw
from yolo.network import Network


class OnnxEngine:
    """Runs a model as an ONNX file; raises EngineError where one of its `packages` isn't there.

    `program` is its file of children/, `install` what pip needs to install it.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    install: ClassVar[str]

    def __init__(self, threads: int = 1, limit: float = LIMIT) -> None:
        for package in ("onnx", "onnxruntime", *self.packages):
            if importlib.util.find_spec(package) is None:
                raise EngineError(f"{package} is not installed: pip install {self.install}")
        self.threads, self.limit = threads, limit

    def run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """See Engine; the graph is made of the network, whatever `cfg` spells otherwise."""
        return outputs(self.name, network, layers, self.child(network, layers, x, {"runs": 0}))

    def child(
        self, network: Network, layers: Sequence[int], x: np.ndarray, job: Mapping[str, object]
    ) -> dict[str, np.ndarray]:
        """The arrays of the child, for an ONNX file whose outputs are these sections."""

        def write(folder: Path) -> None:
            try:
                content = self.content(network, layers)
            except DarknetError as error:
                raise EngineError(f"{self.name} can't run it: {error}") from error
            for suffix, written in content.items():
                (folder / f"model{suffix}").write_bytes(written)

        blobs = Raw(network, layers).names
        whole = {**job, "threads": self.threads, "layers": list(layers), "blobs": blobs}
        return run_program(self.name, network, write, x, self.program, whole, self.limit)

    def content(self, network: Network, layers: Sequence[int]) -> dict[str, bytes]:
        """The files of a network, by suffix, with the outputs of these sections."""
        model = graph(Raw(network.fused(), layers), 1)
        return {".onnx": model.SerializeToString()}
