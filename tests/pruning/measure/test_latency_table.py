"""Tables of latencies: what they fit, and their file."""

import math
import re

import pytest
from cfgs import NET, conv
from hypothesis import given
from hypothesis import strategies as st
from random_cfg import sample

from pruning.measure.latency_table import (
    KIND,
    SCHEMA,
    LatencyTable,
    SectionKind,
    cache_file,
    read_tables,
)
from yolo.errors import DarknetError

CONV = SectionKind("conv", True)
pytestmark = pytest.mark.usefixtures("cache")


def test_a_table_fits_what_was_measured():
    table = LatencyTable(None, "m")
    # 2 µs a MAC and 10 µs a channel
    for widths in ((8, 8), (16, 32), (64, 16)):
        table.add({(CONV, widths): 0.002 * math.prod(widths) + 0.01 * sum(widths)})
    assert table.predict(CONV, (32, 32)) == pytest.approx(0.002 * 1024 + 0.01 * 64)


def test_one_measurement_is_laid_to_the_macs():
    table = LatencyTable(None, "m")
    table.add({(CONV, (10, 20)): 4.0, (SectionKind("pool", False), (20, 20)): 1.0})
    assert table.predict(CONV, (5, 10)) == pytest.approx(1)
    assert table.predict(SectionKind("pool", False), (5, 5)) == pytest.approx(0.25)
    assert table.predict(SectionKind("other", True), (5, 5)) == 0


@given(
    st.dictionaries(
        st.tuples(st.integers(1, 64), st.integers(1, 64)), st.floats(0, 50), min_size=1
    ),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.booleans(),
)
def test_narrower_is_never_slower(tmp_path_factory, known, widths, weighs):
    table = LatencyTable(tmp_path_factory.mktemp("t") / "t.json", "m")
    kind = SectionKind("x", weighs)
    table.add({(kind, key): ms for key, ms in known.items()})
    wide = table.predict(kind, widths)
    assert 0 <= table.predict(kind, (max(widths[0] - 1, 1), max(widths[1] - 1, 1))) <= wide


def test_a_table_is_kept(tmp_path):
    path = tmp_path / "new" / "t.json"
    LatencyTable(path, "one").add({(CONV, (1, 2)): 3.0})
    LatencyTable(path, "two").add({(CONV, (1, 2)): 5.0})
    assert LatencyTable(path, "one").predict(CONV, (1, 2)) == pytest.approx(3)
    assert read_tables(path).times == {
        "one": {"conv": {(1, 2): 3.0}},
        "two": {"conv": {(1, 2): 5.0}},
    }
    assert list(path.parent.iterdir()) == [path]


def test_what_is_measured_again_replaces_the_old(tmp_path):
    table = LatencyTable(tmp_path / "t.json", "m")
    for ms in (3.0, 4.0):
        table.add({(CONV, (1, 2)): ms})
    assert read_tables(tmp_path / "t.json").times["m"]["conv"] == {(1, 2): 4.0}
    table.add({(CONV, (1, n)): 1.0 for n in range(100)})
    assert len(read_tables(tmp_path / "t.json").times["m"]["conv"]) == 64


HEAD = f'"kind": "{KIND}", "schema": {SCHEMA}'
GARBAGE = {
    "": "is not",
    "\0\xff garbage": "is not",
    "[]": "is not",
    "{}": "is not",
    "null": "is not",
    "[" * 10_000: "is not",
    '{"kind": "something else", "machines": {}}': "is not",
    '{"format": "latencies of sections, 1", "machines": {}}': "older version",
    f'{{"kind": "{KIND}", "schema": {SCHEMA + 1}, "machines": {{}}}}': "make it again",
    f'{{{HEAD}, "machines": []}}': "damaged",
    f'{{{HEAD}, "machines": {{"m": {{"conv": [[1, 2]]}}}}}}': "damaged",
    f'{{{HEAD}, "machines": {{"m": {{"conv": [[1, 2, -3]]}}}}}}': "damaged",
    f'{{{HEAD}, "machines": {{"m": {{"conv": [[1, 2, NaN]]}}}}}}': "damaged",
    f'{{{HEAD}, "machines": {{"m": {{"conv": [[1, 2, "x"]]}}}}}}': "damaged",
}
WRONG = {
    "is not": "is not a table of latencies; use another file name, or remove it",
    "older version": "is a table of latencies of an older version; remove it and make it again",
    "make it again": f"is a table of latencies of schema {SCHEMA + 1}, this version reads {SCHEMA}",
    "damaged": "is a damaged table of latencies; remove it and make it again",
}


@pytest.mark.parametrize(("content", "wrong"), GARBAGE.items())
def test_a_file_that_is_no_table_is_left_alone(tmp_path, content, wrong):
    path = tmp_path / "t.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(DarknetError, match=f"^{re.escape(f'{path}: {WRONG[wrong]}')}"):
        LatencyTable(path, "m")
    assert path.read_bytes() == content.encode("latin-1")


@pytest.mark.parametrize("content", GARBAGE)
def test_a_cache_that_is_no_table_is_made_anew(cache, content):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content.encode("latin-1"))
    assert cache_file() == cache
    LatencyTable(None, "m").add({(CONV, (1, 2)): 3.0})
    assert read_tables(cache).times == {"m": {"conv": {(1, 2): 3.0}}}


def test_without_a_cache_it_works_too(cache, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    table = LatencyTable(None, "m")
    table.add({(CONV, (1, 2)): 3.0})
    assert table.predict(CONV, (1, 2)) == pytest.approx(3)
    named = LatencyTable(tmp_path / "file" / "t.json", "m")
    with pytest.raises(DarknetError, match="can't write"):
        named.add({(CONV, (1, 2)): 3.0})


def test_a_failed_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "t.json"
    LatencyTable(path, "m").add({(CONV, (1, 2)): 3.0})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DarknetError, match="can't write"):
        LatencyTable(path, "m").add({(CONV, (3, 4)): 3.0})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_kind_is_all_that_a_time_depends_on_beside_widths():
    text = NET + conv(8) + conv(8) + conv(16) + conv(16, groups=16) + conv(16, groups=4)
    text += conv(16, stride=2) + conv(16, size=1, activation="mish") + "[maxpool]\nsize=2\n"
    kinds = [SectionKind.of(layer) for layer in sample(text).network.layers]
    assert kinds[0] == kinds[1] == kinds[2]
    assert len(set(kinds)) == 6
    assert [kind.weighs for kind in kinds[2:]] == [True, False, True, True, True, False]
