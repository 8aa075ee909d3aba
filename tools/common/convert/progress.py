"""A bar on a terminal for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def progress_bar(images: Iterable[T], total: int) -> Iterable[T]:
    """The images as they come, counted on stderr."""
    from tqdm import tqdm

    silent = not sys.stderr.isatty()
    return tqdm(images, total=total, unit="image", delay=2, leave=False, disable=silent)
