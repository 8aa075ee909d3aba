"""Times that can be compared: medians of alternating runs."""

from __future__ import annotations

import time
from collections.abc import Callable

Rows = list[list[str]]  # of a table of results


def alternating(repeat: int, *actions: Callable[[], object]) -> list[float]:
    """Median seconds of every action; the first run, which warms up, doesn't count."""
    times: list[list[float]] = [[] for _ in actions]
    for number in range(repeat + 1):
        for action, kept in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            if number:
                kept.append(time.perf_counter() - start)
    return [sorted(kept)[len(kept) // 2] for kept in times]


def ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
