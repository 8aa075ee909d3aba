"""The ranges of 8-bit tensors, chosen on calibration images by the squared error that they make."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yolo.export.onnx_graph import INPUT, needed, section_of
from yolo.inference.onnx import InOnnxRuntime

Floats = NDArray[np.float32]
BINS = 1024  # of a histogram; an 8-bit range has 256 levels
LEVELS = 255  # steps of a range
SHARES = np.linspace(0.05, 1.0, 39)  # of the extremes, tried as ends of a range
LEAST = 1e-8  # width of a range
LEAKY = "LeakyRelu"


@dataclass(frozen=True)
class Range:
    """The smallest and the largest number that a tensor holds in 8 bits; 0 lies between them."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """The step between two levels."""
        return max(self.high - self.low, LEAST) / LEVELS


@dataclass(frozen=True)
class Histogram:
    """How often a tensor holds which numbers: `counts` (BINS,) from `low` to `high`."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def whole(self) -> Range:
        """The range of all numbers, and 0."""
        return Range(min(self.low, 0.0), max(self.high, 0.0))

    @property
    def centres(self) -> NDArray[np.float64]:
        """The middle of every bin: (BINS,)"""
        width = (self.high - self.low) / len(self.counts)
        bins = np.arange(len(self.counts), dtype=np.float64)
        return self.low + (bins + 0.5) * width


def histograms(model: Any, images: Iterable[Floats]) -> dict[str, Histogram]:
    """Histograms of the float tensors of a graph's sections for images (C, H, W), by name."""
    content, names = _watched(model)
    session = InOnnxRuntime(content, "the graph")
    parts = list(images)
    lows = dict.fromkeys((INPUT, *names), 0.0)
    highs = dict(lows)
    for tensors in _outputs(session, parts):
        for name, tensor in tensors.items():
            lows[name] = min(lows[name], float(tensor.min()))
            highs[name] = max(highs[name], float(tensor.max()))
    ends = {name: (lows[name], max(highs[name], lows[name] + LEAST)) for name in lows}
    counts = {name: np.zeros(BINS, np.int64) for name in lows}
    for tensors in _outputs(session, parts):
        for name, tensor in tensors.items():
            counts[name] += np.histogram(tensor, BINS, ends[name])[0]
    return {name: Histogram(*ends[name], counts[name]) for name in lows}


def ranges_of(
    model: Any, histograms: Mapping[str, Histogram], least: float, results: Collection[int] = ()
) -> dict[str, Range]:
    """The best range of every tensor, by what it holds.

    Its ends are at least `least` of the extremes: 1 gives min-max. Tensors of the sections in
    `results` keep all that they held: of scores, the rare large ones count most.
    """
    slopes = _slopes(model)
    return {
        name: h.whole
        if section_of(name) in results
        else best_range(h, slopes.get(name, 1.0), least)
        for name, h in histograms.items()
    }


def best_range(histogram: Histogram, slope: float = 1.0, least: float = 0.0) -> Range:
    """The range with the least squared error, that of numbers below 0 times `slope`.

    With the slope of a leaky ReLU that follows, it is the error of what that gives.
    """
    x, counts = histogram.centres, histogram.counts
    weights = counts.astype(np.float64) * np.where(x < 0, slope * slope, 1.0)
    best = histogram.whole
    tried = SHARES[least <= SHARES]
    for _ in range(2):  # one end, the other, and again
        lows = [Range(share * min(histogram.low, 0.0), best.high) for share in tried]
        best = min(lows, key=lambda r: _error(x, weights, r))
        highs = [Range(best.low, share * max(histogram.high, 0.0)) for share in tried]
        best = min(highs, key=lambda r: _error(x, weights, r))
    return best


def _error(x: NDArray[np.float64], weights: NDArray[np.float64], range: Range) -> float:
    """The squared error of numbers, each `weights` times, that are rounded to a range's levels."""
    zero = np.round(-range.low / range.scale)
    levels = np.clip(np.round(x / range.scale) + zero, 0, LEVELS)
    return float((weights * ((levels - zero) * range.scale - x) ** 2).sum())


def _slopes(model: Any) -> Mapping[str, float]:
    """The slope below 0 of the leaky ReLU that alone takes a tensor, by the tensor's name."""
    takers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    alone = {name: nodes[0] for name, nodes in takers.items() if len(nodes) == 1}
    return {
        name: next((a.f for a in node.attribute if a.name == "alpha"), 0.01)
        for name, node in alone.items()
        if node.op_type == LEAKY
    }


def _watched(model: Any) -> tuple[bytes, list[str]]:
    """A graph that also gives all float tensors of the sections, and their names."""
    onnx = needed("onnx")
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = {
        value.name: value
        for value in (*inferred.graph.value_info, *inferred.graph.output)
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    names = [
        output
        for node in inferred.graph.node
        if section_of(node.name) is not None
        for output in node.output
        if output in floats
    ]
    del inferred.graph.output[:]
    inferred.graph.output.extend(floats[name] for name in names)
    return inferred.SerializeToString(), names


def _outputs(session: InOnnxRuntime, images: Sequence[Floats]) -> Iterator[dict[str, Floats]]:
    """The tensors that a graph gives, and its input, image by image."""
    for image in images:
        yield {INPUT: image[None], **session(image[None])}
