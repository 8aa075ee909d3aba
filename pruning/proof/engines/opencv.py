"""OpenCV's DNN module, versions before 5."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from pruning.proof.engines.base import (
    LIMIT,
    EngineError,
    Profile,
    imported_version,
    outputs,
    prepared,
    run_child,
    with_variances,
)
from yolo.cfg import Cfg
from yolo.export.assembly import Portable
from yolo.export.split import computed, split
from yolo.layers.activations import ACTIVATIONS
from yolo.layers.convolutional import BN_EPSILON
from yolo.layers.written import Floats
from yolo.network import Network

EPSILON = 1e-6  # OpenCV divides by sqrt(variance + 1e-6)


class OpenCV:
    """Runs a model in OpenCV; raises EngineError where OpenCV isn't installed."""

    name = "OpenCV"

    def __init__(self, threads: int = 1, limit: float = LIMIT) -> None:
        if importlib.util.find_spec("cv2") is None:
            raise EngineError('OpenCV is not installed: pip install "opencv-python<5"')
        self.threads, self.limit = threads, limit

    @property
    def version(self) -> str:
        """The package's version; raises EngineError."""
        return imported_version(self.name, "cv2")

    def run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """See Engine; the outputs of [yolo] and [region] are in OpenCV's own order.

        OpenCV knows no norm over channels: what stands behind an [l2norm] is a network of its own,
        and the norm is taken between the two.
        """
        form, tails = prepared(self.name, lambda: split(network))

        def compute(part: Portable, x: Floats, sections: Sequence[int]) -> dict[int, Floats]:
            return self._part(part.cfg_like(cfg), part, x, sections)

        arrays = computed(form, tails, x, compute, layers)
        return {layer: arrays[layer] for layer in layers}

    def latency(self, cfg: Cfg, network: Network, runs: int = 10) -> float:
        """Milliseconds of one forward pass, see Profile; raises EngineError."""
        return self.profile(cfg, network, runs).ms

    def profile(self, cfg: Cfg, network: Network, runs: int = 10, seconds: float = 0.0) -> Profile:
        """Times in at least so many runs and so many seconds; raises EngineError."""
        form, tails = prepared(self.name, lambda: split(network))
        parts = [(form.cfg_like(cfg), form)]
        parts += [(tail.portable.network.cfg, tail.portable) for tail in tails]
        total, version = 0.0, ""
        sections: dict[int, float] = {}
        for part_cfg, part in parts:
            timings = self._times(part_cfg, part.network, runs, seconds)
            of_layers, version = timings["of_layers"], str(timings["version"])
            beside = timings["ms"] - of_layers.sum(1)
            total += float(beside.min() + of_layers.min(0).sum())
            times = _by_section(timings["names"], of_layers.min(0))
            sections |= {i: times.get(index, 0.0) for i, index in part.places.items() if i >= 0}
        return Profile(
            f"{self.name} {version}", self.threads, total, dict(sorted(sections.items()))
        )

    def _part(
        self, cfg: Cfg, form: Portable, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """The outputs of those of the original's sections that this part has."""
        index_map = {layer: form.places[layer] for layer in layers if layer in form.places}
        if not index_map:
            return {}
        aligned = with_variances(form.network, lambda v: v + (BN_EPSILON - EPSILON))
        job = self._job(list(index_map.values()))
        results = run_child(self.name, cfg, aligned, x, "opencv", job, self.limit)
        arrays = outputs(self.name, form.network, list(index_map.values()), results)
        return {layer: arrays[index] for layer, index in index_map.items()}

    def _times(
        self, cfg: Cfg, network: Network, runs: int, seconds: float
    ) -> dict[str, np.ndarray]:
        image = network.image
        x = np.full((1, image.channels, image.height, image.width), 0.5, np.float32)
        job = self._job([], runs, seconds)
        return run_child(self.name, cfg, network, x, "opencv", job, self.limit)

    def _job(self, layers: list[int], runs: int = 0, seconds: float = 0.0) -> dict[str, object]:
        return {
            "threads": self.threads,
            "layers": layers,
            "runs": runs,
            "seconds": seconds,
            "activations": list(ACTIVATIONS),
        }


def _by_section(names: np.ndarray, of_layers: np.ndarray) -> dict[int, float]:
    """The milliseconds of sections, from those of the layers that OpenCV makes of them."""
    times: dict[int, float] = defaultdict(float)
    for name, ms in zip(names, of_layers, strict=True):
        kind, _, number = str(name).rpartition("_")
        if number.isdigit():
            # an activation is counted as if the next section made it
            times[int(number) - (kind in ACTIVATIONS)] += float(ms)
    return times
