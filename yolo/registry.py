"""A list of things that commands offer by name, loaded when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Entry:
    """`text`: one sentence for --help; `where`: module:attribute."""

    name: str
    text: str
    where: str

    def load(self) -> Any:
        module, _, attribute = self.where.partition(":")
        return getattr(import_module(module), attribute)


def registry(*entries: Entry) -> dict[str, Entry]:
    """Entries by their names."""
    return {entry.name: entry for entry in entries}
