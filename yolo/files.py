"""Files that appear whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from yolo.errors import DarknetError

Writer = Callable[[BinaryIO], object]


def read_bytes(
    path: str | os.PathLike[str], what: str = "file", kind: type[DarknetError] = DarknetError
) -> bytes:
    """The content of a file; raises an error of this kind, naming `what` it should have been."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise kind(f"{path}: can't read the {what}: {_reason(error)}") from error


def check_writable(path: Path) -> None:
    """Raises DarknetError where a file can't be written, as far as that is known beforehand."""
    if path.is_dir():
        raise DarknetError(f"{path}: can't write: it is a directory")
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise DarknetError(f"{path}: can't write: {folder} is not a directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DarknetError(f"{path}: can't write: permission denied")


def check_distinct(paths: Iterable[Path]) -> None:
    """Raises DarknetError where two of the paths lead to one file."""
    met: set[Path] = set()
    for path in paths:
        if path.resolve() in met:
            raise DarknetError(f"{path}: can't write: another output has the same path")
        met.add(path.resolve())


def write_files(writers: Sequence[tuple[Path, Writer]]) -> None:
    """Write several files beside their targets and rename them only when all are complete.

    Links are followed; anything but a regular file (a pipe, a device) is written to at the end.
    Raises DarknetError when a folder can't be written or the disk is full; nothing changes then.
    """
    check_distinct(path for path, _ in writers)
    targets = [(path.resolve(), write) for path, write in writers]
    streams = [path for path, _ in targets if path.exists() and not path.is_file()]
    with contextlib.ExitStack() as stack:
        complete = [
            (stack.enter_context(_beside(path, write)), path)
            for path, write in targets
            if path not in streams or path.is_dir()
        ]
        _rename(complete)
    for path, write in targets:
        if path in streams:
            with path.open("wb") as file:
                write(file)


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file atomically; raises DarknetError."""
    write_files([(Path(path), content_writer(content))])


def content_writer(content: bytes) -> Writer:
    """A writer of these bytes."""
    return lambda file: file.write(content)


def _rename(complete: list[tuple[str, Path]]) -> None:
    """Rename complete files to their targets, all or none."""
    with contextlib.ExitStack() as undo:
        for temporary, path in complete:
            try:
                undo.callback(_restore, path, _backup(path, temporary + ".old"))
                os.replace(temporary, path)
            except OSError as error:
                raise DarknetError(f"{path}: can't write: {_reason(error)}") from error
        undo.pop_all()
    for temporary, _ in complete:
        _remove(temporary + ".old", [])


def _backup(path: Path, name: str) -> str | None:
    """A second name for the file that exists now; None where there is none."""
    if not path.exists():
        return None
    try:
        os.link(path, name)
    except OSError:  # not every file system has links
        shutil.copy2(path, name)
    return name


def _restore(path: Path, backup: str | None) -> None:
    if backup:
        os.replace(backup, path)
        _remove(backup, [])  # replacing a file by a link to itself leaves the link
    else:
        _remove(str(path), [])


@contextlib.contextmanager
def _beside(path: Path, write: Writer) -> Iterator[str]:
    """A complete temporary file in the folder of `path`, removed unless it has been renamed."""
    temporary, new = None, []
    try:
        check_writable(path)
        new = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with open(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(descriptor)
        os.chmod(temporary, 0o666 & ~_umask())
    except OSError as error:
        _remove(temporary, new)
        raise DarknetError(f"{path}: can't write: {_reason(error)}") from error
    except BaseException:
        _remove(temporary, new)
        raise
    try:
        yield temporary
    finally:
        _remove(temporary, new)


def _remove(temporary: str | None, folders: list[Path]) -> None:
    """Remove what a failure leaves: a file that wasn't renamed, empty folders."""
    if temporary:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
