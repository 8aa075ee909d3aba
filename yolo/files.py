"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from yolo.errors import DarknetError

Writer = Callable[[BinaryIO], object]


def read_bytes(path: str | os.PathLike[str], what: str = "file") -> bytes:
    """The content of a file; raises DarknetError, naming `what` it should have been."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DarknetError(f"{path}: can't read the {what}: {_reason(error)}") from error


def check_writable(path: Path) -> None:
    """Raises DarknetError where a file can't be written there, as far as can be told before."""
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if path.is_dir():
        raise DarknetError(f"{path}: can't write: it is a directory")
    if not folder.is_dir():
        raise DarknetError(f"{path}: can't write: {folder} is not a directory")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DarknetError(f"{path}: can't write: permission denied")


def write_files(writers: Mapping[Path, Writer]) -> None:
    """Write several files beside their targets and rename them only when all are complete.

    Raises DarknetError when a folder can't be written or the disk is full; nothing is left then.
    """
    with contextlib.ExitStack() as stack:
        written = [
            (stack.enter_context(_beside(path, write)), path) for path, write in writers.items()
        ]
        for temporary, path in written:
            try:
                os.replace(temporary, path)
            except OSError as error:
                raise DarknetError(f"{path}: can't write: {_reason(error)}") from error


def write_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file atomically; raises DarknetError."""
    write_files({Path(path): lambda file: file.write(content)})


@contextlib.contextmanager
def _beside(path: Path, write: Writer) -> Iterator[str]:
    """A complete temporary file in the folder of `path`, removed again unless it was renamed."""
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
    """Remove what a failure leaves: a file that wasn't renamed, folders with nothing in them."""
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
