"""Files of older forms, of other kinds and damaged ones are refused with a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pruning.cut import plan
from pruning.measure import latency_table
from pruning.run import comparison, gradual, report
from pruning.selection import sensitivity
from yolo.errors import DarknetError, PlanError
from yolo.records import read_record

# a file's kind and form, what reads it, and what it held before it had them
READERS: dict[str, tuple[int, Callable[[Path], object], dict[str, object]]] = {
    plan.KIND: (plan.SCHEMA, plan.Plan.load, {"strategy": "slim", "percent": 0.5, "keep": {}}),
    sensitivity.KIND: (
        sensitivity.SCHEMA,
        sensitivity.Scan.load,
        {"format": "sensitivity scan, 1", "key": {}, "judge": "map", "score": 1.0, "families": []},
    ),
    comparison.KIND: (
        comparison.SCHEMA,
        comparison.load,
        {"format": "comparison of cuts, 1", "cuts": [], "others": []},
    ),
    latency_table.KIND: (
        latency_table.SCHEMA,
        latency_table.read_tables,
        {"format": "latencies of sections, 1", "machines": {}},
    ),
    gradual.KIND: (
        gradual.SCHEMA,
        lambda path: read_record(path, gradual.KIND, gradual.SCHEMA, dict, PlanError),
        {"cfg": "x.cfg", "wish": {}, "steps": 3, "asked": []},
    ),
    report.KIND: (
        report.SCHEMA,
        gradual.StepReport.load,
        {"cfg": "x.cfg", "strategy": "slim", "percent": 0.5, "before": {}, "after": {}},
    ),
}
REMOVE = "remove it and make it again"
OTHER = "use another file name, or remove it"


def check_refused(path: Path, kind: str, content: object, message: str) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    before = path.read_bytes()
    with pytest.raises(DarknetError, match=f"^{re.escape(f'{path}: is {message}')}$"):
        READERS[kind][1](path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", READERS)
def test_files_from_before_they_had_a_kind(tmp_path: Path, kind: str) -> None:
    older = READERS[kind][2]
    check_refused(tmp_path / "x.json", kind, older, f"a {kind} of an older version; {REMOVE}")


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("more", [-1, 1])
def test_files_of_another_form(tmp_path: Path, kind: str, more: int) -> None:
    schema = READERS[kind][0]
    content = {"kind": kind, "schema": schema + more}
    message = f"a {kind} of schema {schema + more}, this version reads {schema}; make it again"
    check_refused(tmp_path / "x.json", kind, content, message)


@pytest.mark.parametrize("kind", READERS)
def test_files_of_another_kind(tmp_path: Path, kind: str) -> None:
    other = next(name for name in READERS if name != kind)
    message = f"not a {kind}; {OTHER}"
    for content in (
        {"kind": other, "schema": READERS[other][0]},
        {"kind": "something else", **READERS[kind][2]},
        {},
        [],
        None,
        "",
        "[" * 10_000,
    ):
        check_refused(tmp_path / "x.json", kind, content, message)


@pytest.mark.parametrize("kind", [kind for kind in READERS if kind != gradual.KIND])
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    content = {"kind": kind, "schema": READERS[kind][0]}
    check_refused(tmp_path / "x.json", kind, content, f"a damaged {kind}; {REMOVE}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A scan and a comparison begin then; the others are needed."""
    path = tmp_path / "x.json"
    assert sensitivity.Scan.load(path) is None
    assert comparison.load(path) == {}
    for kind in (plan.KIND, latency_table.KIND, report.KIND):
        with pytest.raises(DarknetError, match=re.escape(str(path))):
            READERS[kind][1](path)
