"""The images and truths that a network asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Boxes or classes, and the input: channels, height and width of [net]."""

    is_detector: bool
    classes: int
    channels: int
    height: int
    width: int
