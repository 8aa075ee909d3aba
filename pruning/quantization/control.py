"""Accuracy control: sections that cost most go back to floats until little accuracy is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pruning.measure.progress import Progress
from pruning.quantization.quantize import Quantizer
from yolo.errors import ProofError

Score = Callable[[bytes], float]  # of an ONNX file, such as its mAP


@dataclass(frozen=True)
class Controlled:
    """A file in 8 bits, the sections that it leaves in floats, and its score beside the float's."""

    content: bytes
    floats: tuple[int, ...]
    expected: float
    score: float

    def __str__(self) -> str:
        sections = ", ".join(map(str, self.floats)) or "none"
        return (
            f"accuracy {self.score:.4f}, in floats {self.expected:.4f}; back in floats: {sections}"
        )


def controlled(
    quantizer: Quantizer, score: Score, drop: float, progress: Progress = lambda step: None
) -> Controlled:
    """The file with few sections in floats whose score is at most `drop` below the float file's.

    Sections go back in the order of their costs, twice as many each time, then as few as do.
    Raises ProofError where even the last one doesn't help.
    """
    progress("evaluating in floats")
    expected = score(quantizer.content(quantizer.sections))

    def attempt(floats: Sequence[int]) -> Controlled:
        progress(f"evaluating with {len(floats)} sections back in floats")
        content = quantizer.content(floats)
        return Controlled(content, tuple(sorted(floats)), expected, score(content))

    first = attempt(())
    if expected - first.score <= drop:
        return first
    order = _costliest(quantizer, progress)
    failing, passing = 0, 1
    while expected - (found := attempt(order[:passing])).score > drop:
        if passing >= len(order):
            raise ProofError(
                f"{quantizer.network.cfg.path}: loses more than {drop:g} with every section in "
                "floats: allow more with --map-drop"
            )
        failing, passing = passing, min(2 * passing, len(order))
    while passing - failing > 1:
        middle = (failing + passing) // 2
        attempted = attempt(order[:middle])
        if expected - attempted.score <= drop:
            found, passing = attempted, middle
        else:
            failing = middle
    return found


def _costliest(quantizer: Quantizer, progress: Progress) -> list[int]:
    """The sections, those first that change the heads most when they alone are in 8 bits."""
    costs = {}
    for number, section in enumerate(quantizer.sections, 1):
        progress(f"measuring section {number} of {len(quantizer.sections)}")
        costs[section] = quantizer.deviation([i for i in quantizer.sections if i != section])
    return sorted(costs, key=lambda section: -costs[section])
