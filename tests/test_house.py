"""The tests keep the plan of the house: they mirror its rooms and share through helper modules."""

import ast
from pathlib import Path

import pytest
from paths import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("*.py"))
FOLDERS = sorted({path.parent.relative_to(TESTS) for path in FILES} - {Path()})


def imported(path: Path) -> set[str]:
    """The first words of all modules that a file imports, also inside functions."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names}


def test_no_file_imports_a_test() -> None:
    tests = {path.stem for path in FILES if path.stem.startswith("test_")} | {"conftest"}
    imports = {path.name: imported(path) & tests for path in FILES}
    assert not {name: modules for name, modules in imports.items() if modules}


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_every_folder_is_a_room(folder: Path) -> None:
    assert folder.parts[0] in ("yolo", "pruning", "tools")
    assert list((ROOT / folder).glob("*.py"))


def test_folders_hold_tests_and_helpers_stand_beside_them() -> None:
    helpers = [path for path in FILES if not path.stem.startswith("test_")]
    assert {path.parent for path in helpers} == {TESTS}


def test_names_are_unique() -> None:
    assert len({path.stem for path in FILES}) == len(FILES)
