"""OpenCV's DNN module, versions before 5."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

import numpy as np

from pruning.engines.base import LIMIT, EngineError, formed, outputs, run_child, with_variances
from yolo.cfg import Cfg
from yolo.layers.activations import ACTIVATIONS
from yolo.layers.convolutional import BN_EPSILON
from yolo.network import Network
from yolo.portable import Floats, Portable, computed, without_norms

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
        """See Engine; the outputs of [yolo] and [region] are in OpenCV's own order.

        OpenCV knows no norm over channels: what stands behind an [l2norm] is a network of its own,
        and the norm is taken between the two.
        """
        form, tails = formed(self.name, lambda: without_norms(network))

        def compute(part: Portable, x: Floats, wanted: Sequence[int]) -> dict[int, Floats]:
            return self._part(part.cfg_like(cfg), part, x, wanted)

        found = computed(form, tails, x, compute, layers)
        return {layer: found[layer] for layer in layers}

    def latency(self, cfg: Cfg, network: Network, runs: int = 10) -> float:
        """Median milliseconds of one forward pass; raises EngineError."""
        form, tails = formed(self.name, lambda: without_norms(network))
        parts = [(form.cfg_like(cfg), form.network)]
        parts += [(tail.portable.network.cfg, tail.portable.network) for tail in tails]
        return sum(self._milliseconds(*part, runs) for part in parts)

    def _part(
        self, cfg: Cfg, form: Portable, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """The outputs of those of the original's sections that this part has."""
        at = {layer: form.places[layer] for layer in layers if layer in form.places}
        if not at:
            return {}
        aligned = with_variances(form.network, lambda v: v + (BN_EPSILON - EPSILON))
        job = self._job(list(at.values()), 0)
        found = run_child(self.name, cfg, aligned, x, job, self.limit)
        arrays = outputs(self.name, form.network, list(at.values()), found)
        return {layer: arrays[place] for layer, place in at.items()}

    def _milliseconds(self, cfg: Cfg, network: Network, runs: int) -> float:
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
