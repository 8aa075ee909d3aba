"""onnxruntime, with an ONNX file of the network, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pruning.proof.engines.base import (
    LIMIT,
    EngineError,
    Profile,
    imported_version,
    outputs,
    run_program,
)
from yolo.cfg import Cfg
from yolo.errors import DarknetError
from yolo.export.onnx_graph import graph, section_of
from yolo.export.onnx_metadata import Metadata
from yolo.export.onnx_outputs import Raw
from yolo.export.options import RAW, OnnxOptions
from yolo.models.weights import Header
from yolo.network import Network


class OnnxRuntime:
    """Runs a model in onnxruntime; raises EngineError where it or onnx isn't installed."""

    name = "onnxruntime"

    def __init__(self, threads: int = 1, limit: float = LIMIT) -> None:
        for package in ("onnx", "onnxruntime"):
            if find_spec(package) is None:
                raise EngineError(
                    f"{package} is not installed: pip install 'darknet-pruning[onnx]'"
                )
        self.threads, self.limit = threads, limit

    @property
    def version(self) -> str:
        """The package's version; raises EngineError."""
        return imported_version(self.name, "onnxruntime")

    def run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """See Engine; the graph is made of the network, whatever `cfg` spells otherwise."""
        found = self._child(network, layers, x, {"runs": 0})
        return outputs(self.name, network, layers, found)

    def profile(self, cfg: Cfg, network: Network, runs: int = 10, seconds: float = 0.0) -> Profile:
        """Times in at least so many runs and so many seconds; raises EngineError."""
        image = network.image
        x = np.full((1, image.channels, image.height, image.width), 0.5, np.float32)
        job = {"runs": runs, "seconds": seconds}
        found = self._child(network, network.head_inputs, x, job)
        of_nodes = found["of_nodes"]
        beside = found["ms"] - of_nodes.sum(1)
        sections = dict.fromkeys(range(len(network.layers)), 0.0)
        index = 0
        for node, ms in zip(found["nodes"], of_nodes.min(0), strict=True):
            # what has no name of ours rearranges the output of the node before it
            index = index if (own := section_of(str(node))) is None else own
            sections[index] += float(ms)
        total = float(beside.min() + of_nodes.min(0).sum())
        return Profile(f"{self.name} {found['version']}", self.threads, total, dict(sections))

    def _child(
        self, network: Network, layers: Sequence[int], x: np.ndarray, job: Mapping[str, object]
    ) -> dict[str, np.ndarray]:
        """The arrays of the child, for an ONNX file whose outputs are these sections."""
        options = OnnxOptions(boxes=RAW)
        metadata = Metadata.of(network.plain(), Header(), options)

        def write(folder: Path) -> None:
            try:
                model = graph(Raw(network.fused(), layers), 1, metadata)
            except DarknetError as error:
                raise EngineError(f"{self.name} can't run it: {error}") from error
            (folder / "model.onnx").write_bytes(model.SerializeToString())

        whole = {**job, "threads": self.threads, "layers": list(layers)}
        return run_program(self.name, network, write, x, "onnxruntime", whole, self.limit)
