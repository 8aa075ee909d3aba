"""Fixtures of all tests, and the settings of hypothesis."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine
from hypothesis import settings
from paths import SHARED

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
# a shell lets its background jobs ignore Ctrl-C, and what these start inherits that
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The project's commands, run in this process, where they may leave no handler behind."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    return CommandLine(monkeypatch, capsys)


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is measured of engines for the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of latencies, where the user's is not touched."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "darknet-pruning" / "latencies.json"


@pytest.fixture
def shared() -> Path:
    """The folder of real data, models and oracles beside the project."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared of real models and data")
    return SHARED
