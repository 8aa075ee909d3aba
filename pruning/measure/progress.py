"""The progress of long work."""

from collections.abc import Callable

Progress = Callable[[str], object]  # shows the step that begins
