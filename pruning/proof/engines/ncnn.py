"""ncnn, with files that pnnx converts from ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pruning.proof.engines.base import outputs, run_program
from pruning.proof.engines.onnx_file import OnnxEngine
from yolo.cfg import Cfg
from yolo.export.ncnn import converted
from yolo.export.onnx_outputs import Raw
from yolo.network import Network


class Ncnn(OnnxEngine):
    """Runs a model in ncnn."""

    name = program = "ncnn"
    packages = ("ncnn", "pnnx")
    install = "ncnn pnnx, and 'darknet-pruning[onnx]'"

    def run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """See Engine."""
        blobs = self.child(network, layers, x, {"runs": 0})
        names = Raw(network, layers).names
        arrays = {str(index): blobs[name] for index, name in zip(layers, names, strict=True)}
        return outputs(self.name, network, layers, arrays)

    def content(self, network: Network, layers: Sequence[int]) -> dict[str, bytes]:
        return converted(super().content(network, layers)[".onnx"], network)

    def blobs(
        self, network: Network, files: Mapping[str, bytes], x: np.ndarray, names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """The blobs `names` of .param and .bin files for x (1, C, H, W); raises EngineError."""

        def write(folder: Path) -> None:
            for suffix in (".param", ".bin"):
                (folder / f"model{suffix}").write_bytes(files[suffix])

        job = {"threads": self.threads, "blobs": list(names), "runs": 0}
        return run_program(self.name, network, write, x, self.program, job, self.limit)
