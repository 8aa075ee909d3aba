"""JSON files with a kind and a schema number, so that no other file is misread as one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from yolo.errors import DarknetError
from yolo.files import read_bytes

T = TypeVar("T")
# errors of a parser that gets somebody else's JSON
WRONG = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

UNNAMED = {"format", "strategy", "wish"}  # keys of our files from before they had a kind


def record(kind: str, schema: int, content: Mapping[str, object], indent: int = 2) -> str:
    """The text of a file: `kind` names what it holds, `schema` is the version of its form."""
    return json.dumps({"kind": kind, "schema": schema, **content}, indent=indent) + "\n"


def read_record(
    path: str | os.PathLike[str],
    kind: str,
    schema: int,
    parse: Callable[[dict[str, Any]], T],
    error: type[DarknetError] = DarknetError,
) -> T:
    """Result of `parse` for the file's content.

    Raises `error` for a file that can't be read, isn't of this kind, or has another schema; an
    error of WRONG from `parse` counts as damage.
    """
    try:
        data = json.loads(read_bytes(path, kind, error))
        header = data.get("kind"), data.get("schema")
    except WRONG as wrong:
        raise error(f"{path}: is not a {kind}; use another file name, or remove it") from wrong
    if header == (None, None) and UNNAMED & data.keys():
        raise error(f"{path}: is a {kind} of an older version; remove it and make it again")
    if header[0] != kind:
        raise error(f"{path}: is not a {kind}; use another file name, or remove it")
    if header[1] != schema:
        raise error(
            f"{path}: is a {kind} of schema {header[1]}, this version reads {schema}; make it again"
        )
    try:
        return parse(data)
    except WRONG as wrong:
        raise error(f"{path}: is a damaged {kind}; remove it and make it again") from wrong
