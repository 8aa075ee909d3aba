"""Choices by name, as data: `--help` lists them without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar


@dataclass(frozen=True)
class Entry:
    """A choice of the user: its name, a sentence for --help, and where it is defined."""

    name: str
    text: str
    where: str = ""  # "package.module:attribute", imported when it is used: --help needs no torch

    def load(self) -> Any:
        """The function or class; raises LookupError where the entry names none."""
        module, _, attribute = self.where.partition(":")
        if not attribute:
            raise LookupError(f"{self.name} names no function or class")
        return getattr(import_module(module), attribute)


E = TypeVar("E", bound=Entry)


def registry(*entries: E) -> dict[str, E]:
    """Entries by their names; raises ValueError where two have the same."""
    by_name = {entry.name: entry for entry in entries}
    if len(by_name) < len(entries):
        raise ValueError("two entries have the same name")
    return by_name
