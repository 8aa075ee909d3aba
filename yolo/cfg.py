"""A Darknet cfg as a lossless document: parse, look up, edit, write."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from yolo.errors import CfgError
from yolo.files import read_bytes, write_file
from yolo.strict import hidden, known_keys, strict_value

# Darknet reads a section by any of its names.
ALIASES = {
    "network": "net",
    "conv": "convolutional",
    "conn": "connected",
    "max": "maxpool",
    "local_avg": "local_avgpool",
    "avg": "avgpool",
    "lrn": "normalization",
    "soft": "softmax",
}
# Darknet drops exactly these from every line (strip() of utils.c).
BLANKS = str.maketrans("", "", " \t\n\r")
INTEGER = re.compile(r"[+-]?[0-9]+(\.0*)?")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
LONGEST = 600  # characters of a message; a line of a broken file may have millions
Value = TypeVar("Value")


@dataclass(frozen=True)
class Option:
    """One `key=value` line; `line` counts from 0."""

    value: str | None
    line: int


@dataclass(frozen=True)
class Section:
    """One section as Darknet reads it: of two equal keys the first counts.

    `index` is Darknet's layer count (-1 for [net], 0 for the section after it).
    """

    name: str
    index: int
    line: int
    path: str
    options: Mapping[str, Option] = field(repr=False)

    @property
    def type(self) -> str:
        """The section's type, whichever of its names the file uses."""
        return ALIASES.get(self.name, self.name)

    def error(self, message: str, key: str | None = None) -> CfgError:
        """An error that names file, line and section."""
        line = self.options[key].line if key and key in self.options else self.line
        where = f"{self.path}:{line + 1}: [{_clipped(self.name, 40)}]"
        return CfgError(_printable(f"{where} {_clipped(message, LONGEST)}"))

    def has(self, key: str) -> bool:
        return key in self.options

    def text(self, key: str, default: str | None = None) -> str:
        """The value of `key` without blanks; raises CfgError where it is missing."""
        if key not in self.options:
            if default is None:
                raise self.error(f"{key}= is missing")
            return default
        value = self.options[key].value
        if not value:
            raise self.error(f"{key} has no value", key)
        return value.split("#")[0]

    def choice(self, key: str, default: str, choices: Mapping[str, Value]) -> Value:
        """The entry of `choices` for the value; raises CfgError for an unknown value."""
        value = self.text(key, default)
        if value not in choices:
            raise self.error(f"{key}={value}: expected one of {', '.join(choices)}", key)
        return choices[value]

    def integer(
        self, key: str, default: int | None = None, minimum: int = 0, maximum: int = 2**31 - 1
    ) -> int:
        """An integer in [minimum, maximum]; raises CfgError for anything else."""
        if key not in self.options and default is not None:
            return default
        return self._integer(key, self.text(key), minimum, maximum)

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A comma-separated list of integers."""
        if key not in self.options and default is not None:
            return default
        limit = 2**31
        return tuple(self._integer(key, item, -limit, limit) for item in self._items(key))

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; raises CfgError for anything else."""
        if key not in self.options and default is not None:
            return default
        return self._number(key, self.text(key))

    def numbers(self, key: str, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        """A comma-separated list of finite numbers."""
        if key not in self.options and default is not None:
            return default
        return tuple(self._number(key, item) for item in self._items(key))

    def number_lists(self, key: str) -> list[tuple[float, ...]]:
        """Lists of finite numbers, separated by bars, some of them empty: 2|2,3|"""
        lists = self.text(key).split("|")
        items = [text.rstrip(",").split(",") if text else [] for text in lists]
        return [tuple(self._number(key, item) for item in row) for row in items]

    def flag(self, key: str, default: bool = False) -> bool:
        return self.integer(key, int(default), minimum=-(2**31)) != 0

    def _items(self, key: str) -> list[str]:
        return self.text(key).rstrip(",").split(",")

    def _integer(self, key: str, text: str, minimum: int, maximum: int) -> int:
        if not INTEGER.fullmatch(text) or len(text) > 20:
            raise self.error(f"{key}={_clipped(text, 40)} is not an integer", key)
        value = int(text.split(".")[0])
        if not minimum <= value <= maximum:
            bound = f"at least {minimum}" if value < minimum else f"at most {maximum}"
            raise self.error(f"{key}={value}: expected {bound}", key)
        return value

    def _number(self, key: str, text: str) -> float:
        value = float(text) if NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            raise self.error(f"{key}={_clipped(text, 40)} is not a finite number", key)
        return value


class Cfg:
    """A cfg document; immutable, unedited it writes back byte for byte.

    `net` is the [net] section, `layers` the sections after it in Darknet's count.
    """

    def __init__(self, content: bytes, path: str = "cfg") -> None:
        """Parse; raises CfgError for a file without [net] or with text before it."""
        self.path = path
        # surrogateescape keeps every byte in any encoding of the comments
        self._lines = content.decode("utf-8", "surrogateescape").split("\n")
        sections = self._parse()
        if not sections:
            raise CfgError(f"{path}: no [net] section: the file holds no sections at all")
        self.net, self.layers = sections[0], tuple(sections[1:])
        if self.net.type != "net":
            raise self.net.error("the first section must be [net] or [network]")
        for section in self.layers:
            if section.type == "net":
                raise section.error("is a second [net] section: only one is allowed")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Cfg:
        """Read a cfg file; raises DarknetError when it can't be read."""
        return cls(read_bytes(path, "cfg"), str(path))

    @property
    def sections(self) -> tuple[Section, ...]:
        return (self.net, *self.layers)

    def to_bytes(self) -> bytes:
        return "\n".join(self._lines).encode("utf-8", "surrogateescape")

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write atomically; raises DarknetError."""
        write_file(path, self.to_bytes())

    def edited(self, edits: Mapping[int, Mapping[str, object]]) -> Cfg:
        """A copy with new values: {section index: {key: value}}, -1 for [net].

        Only the touched lines change, to `key=value`; a new key follows its section's header.
        """
        lines = list(self._lines)
        new: list[tuple[int, str]] = []
        for index, values in edits.items():
            section = self.sections[index + 1]
            for key, value in values.items():
                if key in section.options:
                    line = section.options[key].line
                    ending = "\r" if lines[line].endswith("\r") else ""
                    lines[line] = f"{key}={value}{ending}"
                else:
                    ending = "\r" if lines[section.line].endswith("\r") else ""
                    new.append((section.line, f"{key}={value}{ending}"))
        new.sort(key=lambda item: item[0])
        for line, text in reversed(new):
            lines.insert(line + 1, text)
        return self._with(lines)

    def retyped(self, types: Mapping[int, str], without: Collection[str] = ()) -> Cfg:
        """A copy in which these sections have other types, and none of the keys `without`."""
        lines: list[str | None] = list(self._lines)
        for index, kind in types.items():
            section = self.layers[index]
            lines[section.line] = self._lines[section.line].replace(section.name, kind, 1)
            for key in without:
                if key in section.options:
                    lines[section.options[key].line] = None
        return self._with([line for line in lines if line is not None])

    def source(self, section: Section, without: Collection[str] = ()) -> str:
        """The lines of a section, up to the next header, except those of the keys `without`."""
        gone = {section.options[key].line for key in without if key in section.options}
        return "\n".join(self._lines[i] for i in self._range(section) if i not in gone)

    def replaced(self, texts: Mapping[int, str]) -> Cfg:
        """A copy with sections replaced: {section index: text of the new ones, "" for none}.

        Comments between the sections stay.
        """
        lines = list(self._lines)
        for index in sorted(texts, reverse=True):
            section = self.layers[index]
            ending = "\r" if lines[section.line].endswith("\r") else ""
            end = max(n for n in self._range(section) if _bare(lines[n])) + 1
            new = [line + ending for line in texts[index].split("\n")] if texts[index] else []
            while not new and end < len(lines) - 1 and not lines[end].translate(BLANKS):
                end += 1
            lines[section.line : end] = new
        return self._with(lines)

    def appended(self, text: str) -> Cfg:
        """A copy with more sections after the last one."""
        return self._with([*self._lines, *text.split("\n")])

    def strict(self) -> Cfg:
        """A copy for parsers stricter than Darknet, such as hank-ai's (see strict.py).

        `key=value`, LF, no key twice, numbers without exponents, comments behind #. A key that
        Darknet 5 doesn't know gets a blank, which other parsers drop. Comments, blank lines and
        order stay as they are.
        """
        strict = dict(self._strict_options())
        lines = []
        for number, raw in enumerate(self._lines):
            line = raw.rstrip("\r")
            bare = line.translate(BLANKS)
            if number in strict:
                lines.append(strict[number])
            elif not bare or bare[0] == "#":
                lines.append(line)
            elif bare[0] == ";":
                lines.append(line.replace(";", "#", 1))
            elif bare[0] == "[":
                lines.append(bare)
        return self._with(lines)

    def _strict_options(self) -> Iterator[tuple[int, str]]:
        """Line numbers of the options that count, and what strict parsers get there."""
        for section in self.sections:
            values = {key: option.value for key, option in section.options.items()}
            known = known_keys(section.type, values)
            for key, option in section.options.items():
                if option.value is not None:
                    value = self._lines[option.line].split("=", 1)[1].strip()
                    if known is not None:
                        value = strict_value(key, value)
                    shown = key if known is None or key in known else hidden(key)
                    yield option.line, f"{shown}={value}"

    def _range(self, section: Section) -> range:
        """The lines from a section's header up to the next one's."""
        end = next((s.line for s in self.sections if s.line > section.line), len(self._lines))
        return range(section.line, end)

    def _with(self, lines: list[str]) -> Cfg:
        return Cfg("\n".join(lines).encode("utf-8", "surrogateescape"), self.path)

    def _parse(self) -> list[Section]:
        sections: list[Section] = []
        options: dict[str, Option] = {}
        for number, raw in enumerate(self._lines):
            line = _bare(raw)
            if not line:
                continue
            if line[0] == "[":
                name = self._section_name(line, number)
                options = {}
                sections.append(Section(name, len(sections) - 1, number, self.path, options))
            elif not sections:
                raise CfgError(f"{self.path}:{number + 1}: expected [net], found {_short(line)}")
            else:
                key, equals, value = line.partition("=")
                options.setdefault(key, Option(value if equals else None, number))
        return sections

    def _section_name(self, line: str, number: int) -> str:
        if not line.endswith("]"):
            raise CfgError(f"{self.path}:{number + 1}: expected [section], found {_short(line)}")
        return line[1:-1]


def _bare(line: str) -> str:
    """The part of a line that Darknet reads: nothing of a comment."""
    bare = line.translate(BLANKS)
    return "" if bare[:1] in ("#", ";", "\0") else bare


def _printable(text: str) -> str:
    """Escapes for control characters and for bytes that aren't UTF-8."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _short(text: str) -> str:
    return ascii(_clipped(text, 40))


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
