"""OpenCV's DNN module, versions before 5."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from pruning.engines.base import LIMIT, EngineError, outputs, run_child, with_variances
from yolo.cfg import Cfg
from yolo.layers.activations import ACTIVATIONS
from yolo.layers.convolutional import BN_EPSILON
from yolo.network import Network

EPSILON = 1e-6  # OpenCV divides by sqrt(variance + 1e-6)


class OpenCV:
    """Runs a model in OpenCV; raises EngineError where OpenCV isn't installed."""

    name = "OpenCV"

    def __init__(self, threads: int = 1, limit: float = LIMIT) -> None:
        if importlib.util.find_spec("cv2") is None:
            raise EngineError('OpenCV is not installed: pip install "opencv-python<5"')
        self.threads, self.limit = threads, limit

    def run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """See Engine; the outputs of [yolo] and [region] are in OpenCV's own order."""
        layers = list(dict.fromkeys(layers))
        if not layers:
            return {}
        aligned = with_variances(network, lambda v: v + (BN_EPSILON - EPSILON))
        job = self._job(layers, 0)
        found = run_child(self.name, cfg, aligned, x, job, self.limit)
        return outputs(self.name, network, layers, found)

    def latency(self, cfg: Cfg, network: Network, runs: int = 10) -> float:
        """Median milliseconds of one forward pass; raises EngineError."""
        image = network.image
        x = np.full((1, image.channels, image.height, image.width), 0.5, np.float32)
        found = run_child(self.name, cfg, network, x, self._job([], runs), self.limit)
        return float(np.median(found["ms"]))

    def _job(self, layers: list[int], runs: int) -> dict[str, object]:
        return {
            "engine": "opencv",
            "threads": self.threads,
            "layers": layers,
            "runs": runs,
            "activations": list(ACTIVATIONS),
        }
