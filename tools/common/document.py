"""prune.py --report: a page or a card about the cut, for people."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import listed, program
from pruning.registry import DOCUMENTS
from yolo.errors import DarknetError

if TYPE_CHECKING:
    from pruning.run.comparison import Comparison
    from pruning.run.documents.facts import Command
    from pruning.run.prune import Result
    from pruning.session import Inputs
    from yolo.files import Writer

COMPARED = Path("compared") / "compare.json"  # where compare.py writes by default


def add_document_arguments(group: argparse._ArgumentGroup) -> None:
    """The options of a document."""
    group.add_argument(
        "--report",
        metavar="FILE",
        help=f"a document about the cut, by its suffix: {listed(DOCUMENTS)}; pictures are up to "
        "8 of --data, else of --calibrate",
    )
    group.add_argument(
        "--comparison",
        metavar="FILE",
        help=f"a .json of compare.py for --report; default: {COMPARED}, where that compares cuts "
        "of the same model by the same images",
    )


def check_document(args: argparse.Namespace) -> None:
    """Raises DarknetError for a document that can't be made."""
    if args.report is None:
        if args.comparison:
            raise DarknetError(f"--comparison {args.comparison}: is for --report")
        return
    if _suffix(args) not in DOCUMENTS:
        kinds = " or ".join(f".{name}" for name in DOCUMENTS)
        raise DarknetError(f"--report {args.report}: expected a file that ends with {kinds}")
    if args.dry_run:
        raise DarknetError("--report can't be combined with --dry-run: it describes written files")


def document(
    result: Result,
    inputs: Inputs,
    args: argparse.Namespace,
    stem: Path,
    writers: Sequence[tuple[Path, Writer]],
    comparison: Comparison | None,
    exported: str = "",
) -> bytes:
    """The document's content, about files that these writers write.

    `exported` is a sentence on the proof of a file in another format.
    """
    from pruning.run.documents.facts import Facts

    read = {name: getattr(args, name) for name in ("plan", "comparison") if getattr(args, name)}
    commands = _commands(args, stem)
    found = Facts.of(result, inputs, stem.name, writers, commands, comparison, read, exported)
    content: bytes = DOCUMENTS[_suffix(args)].load()(found)
    return content


def comparison_of(args: argparse.Namespace, inputs: Inputs) -> Comparison | None:
    """The comparison that a document shows; raises DarknetError where the named one doesn't fit."""
    from pruning.run.compare import comparison_for

    if not args.report:
        return None
    if args.comparison:
        return comparison_for(inputs, Path(args.comparison))
    with contextlib.suppress(DarknetError):  # nobody has asked for it
        return comparison_for(inputs, COMPARED)
    return None


def _suffix(args: argparse.Namespace) -> str:
    return Path(args.report).suffix.lower().lstrip(".")


def _commands(args: argparse.Namespace, stem: Path) -> list[Command]:
    """The commands that make the cut again, evaluate it, and use it."""
    from pruning.run.documents.facts import Command

    model = ["--cfg", f"{stem}.cfg", "--weights", f"{stem}.weights"]
    data = ["--data", args.data] if args.data else []
    found = [Command("Cut the model", _line("prune", sys.argv[1:]))]
    if data:
        points = ["--points", str(args.points)] if args.points else []
        found.append(Command("Measure how good it is", _line("test", [*model, *data, *points])))
    detect = _line("detect", [*model, *data, "photo.jpg"])
    return [*found, Command("Find objects in a picture", detect)]


def _line(command: str, words: Sequence[str]) -> str:
    return f"{program(command)} {shlex.join(words)}"
