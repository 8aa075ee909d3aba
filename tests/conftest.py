"""Fixtures of all tests, and the settings of hypothesis."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from paths import SHARED

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture
def shared() -> Path:
    """The folder of real data, models and oracles beside the project."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared of real models and data")
    return SHARED
