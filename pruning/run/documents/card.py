"""The model card of a cut: the facts of the page as Markdown, without pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pruning.run.documents.facts import Facts
from pruning.run.documents.words import (
    HARMLESS,
    class_changes,
    headline,
    proof_lines,
    score_text,
    warnings,
)
from pruning.run.report import BLOCK_HEADER

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$!&])")


def card(facts: Facts) -> bytes:
    """The file's content."""
    report = facts.report
    parts = [
        f"# {escaped(facts.title)}",
        escaped(headline(facts)),
        *(f"> **Warning.** {escaped(text)}" for text in warnings(facts)),
        "## Before and after",
        table(("", "before", "after", "left"), report.cost_rows()),
        *([escaped(str(report.recovery))] if report.recovery else []),
        table(("asked for", ""), facts.asked.items()),
        "## Proof",
        HARMLESS,
        table(
            ("at the tensors that enter the heads", "relative L2", "", ""),
            [
                (line.what, line.value, "passed" if line.passed else "", line.note)
                for line in proof_lines(report)
            ],
        ),
        *([escaped(facts.exported)] if facts.exported else []),
        *_pictures(facts),
        *_classes(facts),
        *_blocks(facts),
        "## Sections",
        _sections(facts),
        *_comparison(facts),
        "## Make it again",
        *(f"{escaped(c.what)}:\n\n{fenced(c.line)}" for c in facts.commands),
        table(
            ("", "file", "bytes", "sha256"),
            [(f.what, f.path, f"{f.size:,}", f.sha256) for f in facts.files],
        ),
        table(("versions", ""), facts.versions.items()),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def escaped(text: str) -> str:
    """The text as Markdown that shows it: on one line, no character with a meaning."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def fenced(text: str) -> str:
    """The text as it stands, between fences that it doesn't contain."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts."""
    lines = [list(header), ["---"] * len(header), *([escaped(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _pictures(facts: Facts) -> list[str]:
    if not facts.pictures:
        return []
    rows = [(p.name, p.caption) for p in facts.pictures]
    return ["## On pictures", table(("picture", "found by the original and by this"), rows)]


def _classes(facts: Facts) -> list[str]:
    changes = class_changes(facts)
    if not changes:
        return []
    rows = [
        (c.name, str(c.truths), f"{c.before:.3f}", f"{c.after:.3f}", f"{c.gain:+.3f}")
        for c in changes
    ]
    header = "class", "objects", "AP before", "AP after", "change"
    return ["## Class by class", table(header, rows)]


def _blocks(facts: Facts) -> list[str]:
    rows = facts.report.block_rows()
    return ["## Blocks that are gone", table(BLOCK_HEADER, rows)] if rows else []


def _sections(facts: Facts) -> str:
    rows = [
        (
            str(s.index),
            s.section,
            "" if s.before is None else f"{s.before} → {s.after}",
            s.constants,
            _times(s.ms_before, s.ms_after),
        )
        for s in facts.sections
    ]
    times = facts.report.times
    engine = f"ms in {times.engine}" if times else "ms"
    return table(("section", "", "channels", "constants of what went", engine), rows)


def _times(before: float | None, after: float | None) -> str:
    if before is None:
        return ""
    return f"{before:.3g} → {'gone' if after is None else f'{after:.3g}'}"


def _comparison(facts: Facts) -> list[str]:
    comparison = facts.comparison
    if comparison is None:
        return []
    rows = []
    for outcome in comparison.pareto:
        assert outcome.found
        names = [outcome.names[n] or "" for n in ("target", "strategy", "importance", "recover")]
        share = f"{outcome.found.cost.macs / comparison.original.cost.macs:.1%}"
        rows.append((*names, share, score_text(comparison, outcome)))
    header = "target", "strategy", "importance", "recovery", "MACs", comparison.score_name
    return ["## Compared with other cuts: the best for their MACs", table(header, rows)]
