"""What all documents say in the same words: headline, tiles, warnings, classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pruning.measure.head_error import ERROR
from pruning.run.comparison import Comparison, Outcome
from pruning.run.documents.facts import Facts
from pruning.run.report import Report, counted
from pruning.run.verdict import HALF
from yolo.evaluation.results import DetectorEvaluation

HARMLESS = (
    "How far the written model is from the masked original, and from what engines that others "
    "wrote make of its files. Below 1e-5 it is the rounding of single precision."
)
NOTICED = 5e-4  # a change of AP that isn't rounded away


@dataclass(frozen=True)
class Tile:
    """One number that matters: what is left of it, and what it was."""

    what: str
    value: str
    left: float
    before: str
    after: str
    worse: bool = False


@dataclass(frozen=True)
class ClassChange:
    """A class that has objects in the validation images: their number, its AP before and after."""

    name: str
    truths: int
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.after - self.before

    @property
    def direction(self) -> str | None:
        """up or down; None where nothing has changed."""
        if abs(self.gain) < NOTICED:
            return None
        return "up" if self.gain > 0 else "down"


@dataclass(frozen=True)
class ProofLine:
    """A comparison: its title, the relative L2 or "-", a note; `passed` where it was a test."""

    what: str
    value: str
    note: str
    passed: bool


def proof_lines(report: Report) -> list[ProofLine]:
    """All comparisons; what inexact folds leave is stated, not tested."""
    tested = [name != "fold" and d.value is not None for name, d in report.proof.all.items()]
    rows = zip(report.proof_rows(), tested, strict=True)
    return [ProofLine(what, value, note, passed) for (what, value, note), passed in rows]


def headline(facts: Facts) -> str:
    """The model, how it was cut, what is left, and how that was checked."""
    report = facts.report
    b, a = report.before, report.after
    left = f"{a.cost.macs / max(b.cost.macs, 1):.0%} of its computation"
    if b.score and a.score:
        left += f" and {a.score.value:.3f} of {b.score.value:.3f} {a.score.title}"
    made = sum(line.passed for line in proof_lines(report))
    checked = f"{counted(made, 'comparison')} passed" if made else "no comparison was made"
    asked = "" if report.bayesian else f" ({report.asked})"  # there thresholds say how far
    cut = f"{Path(report.cfg).name}, cut by strategy {report.strategy}{asked}"
    return f"{cut}, keeps {left}; {checked} before it was written."


def tiles(facts: Facts) -> list[Tile]:
    """The score, MACs, parameters, bytes, milliseconds of each engine."""
    b, a = facts.report.before, facts.report.after
    found = [
        *_score(facts),
        _tile("MACs", b.cost.macs, a.cost.macs),
        _tile("parameters", b.cost.parameters, a.cost.parameters),
        _tile("bytes of weights", b.cost.bytes, a.cost.bytes),
    ]
    for name, slow in b.ms.items():
        fast = a.ms.get(name)
        if slow and fast:
            times = f"{slow:.1f}", f"{fast:.1f} ms"
            left = fast / slow
            found.append(Tile(f"time in {name}", f"{left:.0%}", left, *times, worse=left > 1))
    return found


def _score(facts: Facts) -> list[Tile]:
    before, after = facts.report.before.score, facts.report.after.score
    if not before or not after:
        return []
    left = after.value / before.value if before.value else 0.0
    shown = f"{before.value:.3f}", f"{after.value:.3f}"
    return [Tile(after.title, shown[1], left, *shown, worse=left < HALF)]


def _tile(what: str, before: int, after: int) -> Tile:
    left = after / max(before, 1)
    return Tile(what, f"{left:.0%}", left, short(before), short(after), after > before)


def short(number: float) -> str:
    """65174400 → 65.2 M"""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def warnings(facts: Facts) -> list[str]:
    """Warnings that a reader must see first: engines in which the model is slower, the verdict."""
    b, a = facts.report.before.ms, facts.report.after.ms
    found = []
    for name, slow in b.items():
        fast = a.get(name)
        if slow and fast and fast > slow:
            found.append(
                f"Slower in {name}: {slow:.1f} ms before, {fast:.1f} ms after. Ask for widths "
                "in eights (--round 8), or for milliseconds (--target ms=…)."
            )
    verdict = facts.report.verdict
    return [*found, *([verdict.text] if verdict else [])]


def score_text(comparison: Comparison, outcome: Outcome) -> str:
    """The score of a cut, in the digits that its metric has."""
    score = outcome.found.score if outcome.found else None
    if score is None:
        return "-"
    return f"{score:.3g}" if comparison.score_name == ERROR else f"{score:.4f}"


def class_changes(facts: Facts) -> list[ClassChange]:
    """Every class with objects, those that lose most first; none of a classifier's."""
    if facts.evaluations is None:
        return []
    before, after = facts.evaluations
    if not isinstance(before, DetectorEvaluation) or not isinstance(after, DetectorEvaluation):
        return []
    pairs = zip(before.per_class, after.per_class, strict=True)
    found = [ClassChange(b.name, b.truths, b.ap, a.ap) for b, a in pairs if b.truths]
    return sorted(found, key=lambda change: change.gain)
