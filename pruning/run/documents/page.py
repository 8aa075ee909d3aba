"""The page about a cut: one HTML file that needs no network, for a screen and for paper."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Iterable, Sequence

from pruning.measure.head_error import ERROR
from pruning.run.comparison import Comparison, Outcome
from pruning.run.documents.charts import Bar, Point, bars, plane
from pruning.run.documents.facts import Facts, NamedFile, SectionFacts
from pruning.run.documents.markup import Content, Markup, element, joined
from pruning.run.documents.pictures import Picture
from pruning.run.documents.style import CSS
from pruning.run.documents.words import (
    HARMLESS,
    ClassChange,
    Tile,
    class_changes,
    headline,
    proof_lines,
    score_text,
    tiles,
    warnings,
)
from pruning.run.report import BLOCK_HEADER, counted
from yolo.figures import GONE, KEPT, MARK

DOCTYPE = Markup("<!DOCTYPE html>\n")


def page(facts: Facts) -> bytes:
    """The file's content."""
    body = [
        element("h1", facts.title),
        element("p", headline(facts), cls="lead"),
        element("div", *map(_tile, tiles(facts)), cls="tiles"),
        _warnings(warnings(facts)),
        _changes(facts),
        _proof(facts),
        _pictures(facts.pictures),
        _classes(class_changes(facts)),
        _blocks(facts),
        _channels(facts),
        _times(facts),
        _comparison(facts),
        _reproduce(facts),
        element("footer", f"Made on {datetime.date.today():%Y-%m-%d} by darknet-pruning."),
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{facts.title}: what was cut, and what is left"),
        element("style", Markup(CSS)),
    ]
    content = joined(element("head", *head), element("body", element("main", *body)))
    return (DOCTYPE + element("html", content, lang="en") + "\n").encode()


def _tile(tile: Tile) -> Markup:
    width = element("i", style=f"width:{100 * min(tile.left, 1):.1f}%")
    return element(
        "div",
        element("div", tile.what, cls="what"),
        element("b", tile.value),
        element("div", width, cls="bar"),
        element("div", f"{tile.before} → {tile.after}", cls="from"),
        cls="tile worse" if tile.worse else "tile",
    )


def _warnings(found: Sequence[str]) -> Markup:
    if not found:
        return Markup()
    return element("div", *(element("p", text) for text in found), cls="warn", role="note")


def _section(title: str, *content: Content) -> Markup:
    return element("section", element("h2", title), *content)


def _note(text: str) -> Markup:
    return element("p", text, cls="note")


def _table(
    header: Sequence[str],
    rows: Iterable[Sequence[Content]],
    numbers: Sequence[int] = (),
    wide_only: Sequence[int] = (),
) -> Markup:
    """Rows under a header, or none; `numbers` stand to the right, `wide_only` not on phones."""

    def kind(column: int) -> str | None:
        return "n" if column in numbers else "phone-off" if column in wide_only else None

    def row(tag: str, cells: Sequence[Content]) -> Markup:
        kinds = map(kind, range(len(cells)))
        made = (element(tag, c, cls=kind) for c, kind in zip(cells, kinds, strict=True))
        return element("tr", *made)

    head = element("thead", row("th", header)) if header else Markup()
    body = element("tbody", *(row("td", cells) for cells in rows))
    return element("div", element("table", head, body), cls="wide")


def _changes(facts: Facts) -> Markup:
    rows = facts.report.cost_rows()
    header = "", "before", "after", "left"
    recovery = [_note(str(facts.report.recovery))] if facts.report.recovery else []
    return _section("Before and after", _table(header, rows, (1, 2, 3)), *recovery)


def _proof(facts: Facts) -> Markup:
    rows = []
    for line in proof_lines(facts.report):
        mark = element("span", "✓ ", cls="ok") if line.passed else Markup()
        rows.append([joined(mark, line.what), line.value, element("span", line.note, cls="note")])
    return _section(
        "Proof",
        _note(HARMLESS),
        _table(("at the tensors that enter the heads", "relative L2", ""), rows, (1,)),
        _note(facts.exported) if facts.exported else Markup(),
    )


def _pictures(found: Sequence[Picture]) -> Markup:
    if not found:
        return Markup()
    note = "What the original (left) and the cut model (right) find, at a confidence above 0.25."
    drawn = element("div", *map(_pair, found), cls="pairs")
    return _section("On your pictures", _note(note), drawn)


def _pair(picture: Picture) -> Markup:
    sides = zip((picture.before, picture.after), ("original", "cut model"), strict=True)
    images = [
        element(
            "img",
            src="data:image/jpeg;base64," + base64.b64encode(content).decode(),
            alt=f"{picture.name}, {side}",
            width=picture.width,
            height=picture.height,
        )
        for content, side in sides
    ]
    name = picture.name.replace("\\", "/").rpartition("/")[2]
    caption = element("figcaption", element("b", name), f": {picture.caption}")
    return element("figure", element("div", *images), caption, cls="pair")


def _classes(found: Sequence[ClassChange]) -> Markup:
    if not found:
        return Markup()
    rows = [
        [
            change.name,
            f"{change.truths}",
            f"{change.before:.3f}",
            f"{change.after:.3f}",
            element("span", f"{change.gain:+.3f}", cls=change.direction),
            _track(change),
        ]
        for change in found
    ]
    header = "class", "objects", "before", "after", "change", ""
    note = "Average precision of every class that has objects in the validation images."
    return _section("Class by class", _note(note), _table(header, rows, (1, 2, 3, 4), (5,)))


def _track(change: ClassChange) -> Markup:
    """A bar of the AP after in front of that before."""
    bars = (element("i", style=f"width:{100 * ap:.1f}%") for ap in (change.before, change.after))
    return element("div", *bars, cls="track")


def _blocks(facts: Facts) -> Markup:
    rows = facts.report.block_rows()
    if not rows:
        return Markup()
    return _section("Blocks that are gone", _table(BLOCK_HEADER, rows, (0, 2, 3, 4, 5)))


def _channels(facts: Facts) -> Markup:
    sections = [s for s in facts.sections if s.before is not None]
    if not sections:
        return Markup()
    found = [
        Bar(
            str(s.index),
            f"section {s.index}, {s.section}: {s.before} → {s.after} channels",
            s.before or 0,
            s.after or 0,
        )
        for s in sections
    ]
    rows = [
        [str(s.index), s.section, str(s.before), str(s.after), element("span", s.constants)]
        for s in sections
    ]
    header = "section", "", "before", "after", "constants of what went"
    listed = element(
        "details", element("summary", "All sections as a table"), _table(header, rows, (2, 3))
    )
    keys = _keys((GONE, "cut"), (KEPT, "kept"))
    return _section("Channels", keys, bars(found, "channels of every section"), listed)


def _times(facts: Facts) -> Markup:
    times = facts.report.times
    if times is None:
        return Markup()
    sections = [s for s in facts.sections if s.ms_before is not None]
    found = [Bar(str(s.index), _time(s), s.ms_before or 0, s.ms_after or 0) for s in sections]
    threads = counted(times.threads, "thread")
    note = f"Milliseconds of every section in {times.engine}, {threads}."
    keys = _keys((GONE, "before"), (KEPT, "after"))
    drawn = bars(found, "milliseconds of every section", 0.6)
    return _section("Time", _note(note), keys, drawn)


def _time(s: SectionFacts) -> str:
    after = "gone" if s.ms_after is None else f"{s.ms_after:.3g} ms"
    return f"section {s.index}, {s.section}: {s.ms_before or 0:.3g} ms → {after}"


def _comparison(facts: Facts) -> Markup:
    comparison = facts.comparison
    if comparison is None:
        return Markup()
    macs, name = comparison.original.cost.macs, comparison.score_name
    best = comparison.pareto
    points = [
        Point(o.found.cost.macs / macs, o.found.score, _cut(comparison, o), o in best)
        for o in comparison.outcomes
        if o.found and o.found.score is not None
    ]
    score, this = facts.report.after.score, None
    if score and score.title == name:
        left = facts.report.after.cost.macs / macs
        this = Point(left, score.value, f"this cut: {score.value:.4f}")
    original = None if name == ERROR else comparison.original.score
    rows = []
    for outcome in best:
        assert outcome.found
        share = f"{outcome.found.cost.macs / macs:.1%}"
        target, *names = _names(outcome)
        rows.append([target, share, score_text(comparison, outcome), ", ".join(names)])
    keys = [(KEPT, "best for its MACs"), (GONE, "other cuts"), (MARK, "this cut, the original")]
    header = "target", "MACs", name, "strategy, importance, recovery"
    return _section(
        "Compared with other cuts",
        _keys(*keys),
        plane(points, this, original, ("MACs, of the original's", name)),
        _table(header, rows, (1, 2)),
    )


def _names(outcome: Outcome) -> list[str]:
    return [outcome.names[n] or "" for n in ("target", "strategy", "importance", "recover")]


def _cut(comparison: Comparison, outcome: Outcome) -> str:
    score = score_text(comparison, outcome)
    return f"{', '.join(_names(outcome))}: {comparison.score_name} {score}"


def _reproduce(facts: Facts) -> Markup:
    lines = [
        joined(element("h3", command.what), element("pre", command.line))
        for command in facts.commands
    ]
    return _section(
        "Make it again",
        *lines,
        element("h3", "Settings"),
        _table((), facts.asked.items()),
        element("h3", "Files, with their sha256"),
        *map(_file, facts.files),
        element("h3", "Versions"),
        _table((), facts.versions.items()),
    )


def _file(found: NamedFile) -> Markup:
    said = element("span", f"{found.what}, {found.size:,} bytes")
    codes = element("code", found.path), element("code", found.sha256)
    return element("div", said, *codes, cls="file")


def _keys(*found: tuple[str, str]) -> Markup:
    made = (
        element("span", element("i", cls="key", style=f"background:{colour}"), text)
        for colour, text in found
    )
    return element("p", *made, cls="keys")
