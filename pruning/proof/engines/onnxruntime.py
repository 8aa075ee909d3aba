"""onnxruntime, on the CPU."""

from __future__ import annotations

import numpy as np

from pruning.proof.engines.base import Profile, imported_version
from pruning.proof.engines.onnx_file import OnnxEngine
from yolo.cfg import Cfg
from yolo.export.onnx_graph import section_of
from yolo.network import Network


class OnnxRuntime(OnnxEngine):
    """Runs a model in onnxruntime."""

    name = program = "onnxruntime"
    packages = ()
    install = "'darknet-pruning[onnx]', or onnx onnxruntime"

    @property
    def version(self) -> str:
        """The package's version; raises EngineError."""
        return imported_version(self.name, "onnxruntime")

    def profile(self, cfg: Cfg, network: Network, runs: int = 10, seconds: float = 0.0) -> Profile:
        """Times in at least so many runs and so many seconds; raises EngineError."""
        image = network.image
        x = np.full((1, image.channels, image.height, image.width), 0.5, np.float32)
        job = {"runs": runs, "seconds": seconds}
        arrays = self.child(network, network.head_inputs, x, job)
        of_nodes = arrays["of_nodes"]
        beside = arrays["ms"] - of_nodes.sum(1)
        sections = dict.fromkeys(range(len(network.layers)), 0.0)
        index = 0
        for node, ms in zip(arrays["nodes"], of_nodes.min(0), strict=True):
            # what has no name of ours rearranges the output of the node before it
            index = index if (own := section_of(str(node))) is None else own
            sections[index] += float(ms)
        total = float(beside.min() + of_nodes.min(0).sum())
        return Profile(f"{self.name} {arrays['version']}", self.threads, total, sections)
