"""Several files appear together or not at all."""

import os
import threading
from pathlib import Path

import pytest

from yolo import files
from yolo.errors import DarknetError
from yolo.files import write_file, write_files


def writer(content):
    return lambda file: file.write(content)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_rename_takes_back_those_before_it(tmp_path, monkeypatch, error):
    (tmp_path / "a").write_bytes(b"old a")
    (tmp_path / "c").write_bytes(b"old c")
    replace = os.replace

    def failing(source, target):
        if str(target).endswith("c") and not str(source).endswith(".old"):
            raise error
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", failing)
    new = [(tmp_path / name, writer(b"new")) for name in "abc"]
    with pytest.raises((DarknetError, KeyboardInterrupt)):
        write_files(new)
    assert contents(tmp_path) == {"a": b"old a", "c": b"old c"}


def test_all_are_replaced_and_nothing_else_is_left(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    write_files([(tmp_path / "a", writer(b"1")), (tmp_path / "b", writer(b"2"))])
    assert contents(tmp_path) == {"a": b"1", "b": b"2"}


def test_two_outputs_in_one_place_are_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for other in (tmp_path / "a", tmp_path / "x" / ".." / "a", tmp_path / "link"):
        with pytest.raises(DarknetError, match="another output has the same path"):
            write_files([(tmp_path / "a", writer(b"1")), (other, writer(b"2"))])
    assert not (tmp_path / "a").exists()


def test_a_link_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_file(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_pipe_is_written_to_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    content = []
    reader = threading.Thread(target=lambda: content.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_file(tmp_path / "pipe", b"1")
    reader.join(10)
    assert content == [b"1"]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("folder", ["/", "."])
def test_a_folder_is_no_file_to_write(folder):
    with pytest.raises(DarknetError, match="can't write: it is a directory"):
        files.check_writable(Path(folder))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_the_mode_is_that_of_a_file_that_open_makes(tmp_path, umask, mode):
    """And not that of a temporary file, which only its owner may read."""
    before = os.umask(umask)
    try:
        write_files([(tmp_path / "new" / "a", writer(b"1")), (tmp_path / "b", writer(b"2"))])
        (tmp_path / "c").write_bytes(b"3")
        assert os.umask(umask) == umask  # what was asked for stays
    finally:
        os.umask(before)
    for path in (tmp_path / "new" / "a", tmp_path / "b", tmp_path / "c"):
        assert path.stat().st_mode & 0o777 == mode
