"""A folder that appears whole or not at all, and replaces only one that convert.py made."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from yolo.errors import DataError

MARK = "# made by convert.py"  # the first line of a .data file; Darknet skips it


def check_target(folder: Path, data: Path, known: set[str], force: bool) -> None:
    """Raises DataError unless `folder` is free, or a previous result that may be replaced.

    A previous result has a `data` file with our mark, and nothing in it but the `known` entries.
    """
    taken = next((path for path in (folder, data) if os.path.lexists(path)), None)
    if taken is None or (_is_empty(folder) and not os.path.lexists(data)):
        return
    if not _is_marked(data) or (os.path.lexists(folder) and not folder.is_dir()):
        raise DataError(
            f"{taken}: exists and was not made by convert.py; not touched (use another folder)"
        )
    if not force:
        raise DataError(f"{taken}: exists already; use --force to replace it")
    strange = sorted(set(os.listdir(folder)) - known) if folder.is_dir() else []
    if strange:
        raise DataError(
            f"{folder / strange[0]}: was not made by convert.py; {folder} is not replaced: move "
            "that file, or use another folder"
        )


@contextlib.contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`; takes its place at the end, unless an error is raised."""
    with _errors_named(folder):
        new = [parent for parent in folder.parents if not parent.exists()]
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            filled = temporary / "new"
            filled.mkdir()
            yield filled
            _exchange(filled, folder, temporary / "old")
            new = []
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            for parent in new:
                with contextlib.suppress(OSError):
                    parent.rmdir()


def place_file(content: Path | bytes, path: Path) -> None:
    """Create a file at `path`: a hard link where the file system has them, else a copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    source = content.resolve()  # a link to a symbolic link would break with the source's folder
    try:
        os.link(source, path)
    except OSError:
        shutil.copyfile(source, path)


def _exchange(filled: Path, folder: Path, old: Path) -> None:
    """Replace the old folder by the new one; the old one is kept until that has succeeded."""
    if folder.exists():
        os.rename(folder, old)
    try:
        os.rename(filled, folder)
    except OSError:
        if old.exists():
            os.rename(old, folder)
        raise


@contextlib.contextmanager
def _errors_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(f"{error.filename or folder}: can't write: {reason}") from error


def _is_empty(folder: Path) -> bool:
    return not os.path.lexists(folder) or (folder.is_dir() and not os.listdir(folder))


def _is_marked(data: Path) -> bool:
    try:
        with data.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False
