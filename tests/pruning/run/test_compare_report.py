"""How a comparison is read: the best, its table, its rows for machines, its picture."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcomes import ORIGINAL, missing, outcome

from pruning.measure.head_error import ERROR
from pruning.registry import IMPORTANCES, RECOVERIES, SENSITIVITY, STRATEGIES
from pruning.run.comparison import Combination, Comparison, Outcome, dump, last
from pruning.run.figures import compared_cuts
from yolo.errors import DarknetError
from yolo.figures import png

OUTCOMES = (
    outcome("normal", "macs=0.8", score=0.7, macs=8000),
    missing("normal", "macs=0.5"),
    outcome("slim", "macs=0.8", score=0.7, macs=7900),
    outcome("slim", "macs=0.5", score=None, macs=5000),
    outcome("shortcut", "macs=0.8", score=0.6, macs=7000),
    outcome("shortcut", "macs=0.5", score=0.2, macs=4000, parameters=250),
)


def test_the_best_of_every_target() -> None:
    comparison = Comparison(ORIGINAL, OUTCOMES)
    best = {target: outcome.names["strategy"] for target, outcome in comparison.best.items()}
    assert best == {"macs=0.8": "slim", "macs=0.5": "shortcut"}
    errors = [
        replace(outcome, found=outcome.found and replace(outcome.found, score_name=ERROR))
        for outcome in OUTCOMES
    ]
    original = replace(ORIGINAL, score=0.0, score_name=ERROR)
    comparison = Comparison(original, errors)
    assert {outcome.names["strategy"] for outcome in comparison.best.values()} == {"shortcut"}
    assert comparison.score_share(errors[0].found or ORIGINAL) is None
    assert "of original" not in comparison.tables()


def test_the_pareto_line() -> None:
    """Sorted by MACs; a cut that has more MACs for no more score isn't on it."""
    worse = outcome("normal", "macs=0.7", score=0.6, macs=7500)
    found = Comparison(ORIGINAL, [*OUTCOMES, worse])
    assert [o.found and o.found.cost.macs for o in found.pareto] == [4000, 7000, 7900]
    errors = [
        replace(one, found=one.found and replace(one.found, score_name=ERROR)) for one in OUTCOMES
    ]
    less = Comparison(replace(ORIGINAL, score=0.0, score_name=ERROR), errors)
    assert [o.found and o.found.score for o in less.pareto] == [0.2]


def test_the_last_comparison_of_a_file(tmp_path: Path) -> None:
    original = Outcome(None, "first", ORIGINAL)
    known = {one.key: one for one in (original, *OUTCOMES)}
    wanted = ["first", OUTCOMES[0].key, OUTCOMES[1].key]
    (tmp_path / "x.json").write_text(dump(known, wanted))
    key, found = last(tmp_path / "x.json")
    assert (key, found) == ("first", Comparison(ORIGINAL, list(OUTCOMES[:2])))
    (tmp_path / "x.json").write_text(dump(known, wanted[1:]))
    with pytest.raises(DarknetError, match=r"x\.json: is a damaged comparison of cuts"):
        last(tmp_path / "x.json")


def test_the_table_tells_all() -> None:
    text = Comparison(ORIGINAL, OUTCOMES).tables()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()]
    rows = [row for row in rows if row]
    assert rows[1] == ["original", "", "", "", "0.8000", "", "10,000", "1,000", ""]
    assert [row[:2] for row in rows[2:]] == [
        [target, strategy]
        for target in ("macs=0.8", "macs=0.5")
        for strategy in ("normal", "slim", "shortcut")
    ]
    assert rows[3][4:] == ["0.7000", "87.5%", "79.0%", "100.0%", "best"]
    assert rows[5][4:] == ["-", "-", "-", "-", "no such cut 1)"]
    assert rows[6][4:] == ["-", "-", "50.0%", "100.0%", ""]
    assert rows[7][4:] == ["0.2000", "25.0%", "40.0%", "25.0%", "best"]
    assert text.splitlines()[-1] == "1: out of reach"


def test_the_rows_for_machines() -> None:
    first, *rows = csv.DictReader(Comparison(ORIGINAL, OUTCOMES).to_csv().splitlines())
    assert (first["strategy"], first["score"], first["macs_share"]) == ("", "0.8", "1.0")
    assert [row["strategy"] for row in rows] == [outcome.names["strategy"] for outcome in OUTCOMES]
    assert (rows[1]["macs"], rows[1]["note"]) == ("", "out of reach")
    assert (rows[5]["parameters_share"], rows[5]["score_share"]) == ("0.25", "0.25")
    assert [row["best"] for row in rows] == ["", "", "best", "", "", "best"]


def test_the_picture_has_a_line_for_every_combination() -> None:
    timed = [
        replace(
            outcome,
            found=outcome.found
            and replace(outcome.found, ms=outcome.found.cost.macs / 2e3, original_ms=5.0),
        )
        for outcome in OUTCOMES
    ]
    figure = compared_cuts(Comparison(ORIGINAL, timed), "x")
    left, right = figure.axes
    for axes, scale in ((left, 1 / 10000), (right, 1 / 2000)):
        *lines, original = axes.lines
        points = [np.asarray(line.get_xydata()).tolist() for line in lines]
        expected = [[(8000, 0.7)], [(7900, 0.7)], [(4000, 0.2), (7000, 0.6)]]
        np.testing.assert_allclose(
            np.concatenate(points),
            [(macs * scale, score) for line in expected for macs, score in line],
        )
        assert len({line.get_marker() for line in lines}) == 3
        assert (original.get_linestyle(), original.get_ydata()[0]) == ("--", 0.8)  # type: ignore[index]
    words = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    for word in ("original", "strategy", "normal", "slim", "shortcut", "bn", "fold"):
        assert word in words
    assert "ms" in right.get_xlabel()
    assert len(png(figure)) > 1000


def test_there_is_a_picture_of_everything_and_of_nothing() -> None:
    compared = [
        name
        for name, entry in STRATEGIES.items()
        if any(kind.endswith("targets") for kind in entry.accepts)
    ]
    every = [
        Outcome(
            Combination(strategy, importance, "macs=0.5", recovery),
            "x",
            replace(ORIGINAL, score=0.1),
        )
        for strategy in compared
        for importance in IMPORTANCES.keys() - {SENSITIVITY}
        for recovery in RECOVERIES
    ]
    looks = set()
    for line in compared_cuts(Comparison(ORIGINAL, every), "x").axes[0].lines[:-1]:
        dashes = str(line._unscaled_dash_pattern)  # type: ignore[attr-defined]
        looks.add((line.get_marker(), line.get_color(), dashes))
    assert len(looks) == len(every)
    nothing = Comparison(replace(ORIGINAL, score=None), [])
    (axes,) = compared_cuts(nothing, "x").axes
    assert not axes.lines
