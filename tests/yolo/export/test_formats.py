"""The list of export formats: every entry can be loaded, and the command takes it from there."""

import subprocess
import sys

import pytest
from paths import ROOT

from yolo.export.formats import FORMATS
from yolo.registry import Entry, registry


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_complete(name):
    entry = FORMATS[name]
    assert entry.name == name
    assert entry.text
    assert entry.suffix.startswith(".")
    assert callable(entry.load())


def test_names_are_given_once():
    with pytest.raises(ValueError, match="same name"):
        registry(Entry("a", "one"), Entry("a", "another"))


def test_an_entry_without_a_place():
    with pytest.raises(LookupError, match="a names no function or class"):
        Entry("a", "one").load()


def test_the_list_needs_no_torch():
    program = "import sys, yolo.export.formats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_the_help_says_all(command):
    said = " ".join(command.run("export", "--help").out.split())
    for name, entry in FORMATS.items():
        assert f"{name}: {entry.text}" in said


def test_an_unknown_format_is_refused(command):
    ended = command.run("export", "m.pt", "e.weights", "--engine", "nothing")
    assert ended.code == 2
    assert "nothing" in ended.err
