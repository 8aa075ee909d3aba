"""The kind of images and truths that a network needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A task: boxes or classes, their number, and the input size of [net]."""

    is_detector: bool
    classes: int
    channels: int
    height: int
    width: int
