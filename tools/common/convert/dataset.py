"""Data sets of all formats: the options that they share, and how one is written and counted."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from common.command import Steps, check_outputs
from common.convert import Converter
from common.convert.progress import progress_bar
from yolo.datasets.formats.layout import Destination, Summary, check_place, write
from yolo.datasets.formats.options import DatasetFormat
from yolo.files import write_file

SHOWN = 10  # skipped images in the table


def dataset_converter(form: DatasetFormat) -> Converter:
    """The command that makes a data set of another format."""
    return Converter(partial(_add_options, form), partial(_run, form))


def _add_options(form: DatasetFormat, parser: ArgumentParser) -> None:
    if form.made is None:
        parser.add_argument("source", metavar="SRC", help="what is converted")
        parser.add_argument("--name", metavar="X", help="of X.data and X.names; default: DST's")
    parser.add_argument("destination", metavar="DST", help="the folder to make")
    parser.add_argument("--force", action="store_true", help="replace what was made here before")
    parser.add_argument(
        "--absolute",
        action="store_true",
        help="for Darknet itself: absolute paths, and labels beside the images, too",
    )
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON, too")
    form.add_options(parser)


def _run(form: DatasetFormat, args: Namespace) -> int:
    if args.json:
        check_outputs([Path(args.json)], [])
    destination = _destination(form, args)
    check_place(destination, args.name, args.force)
    steps = Steps()
    steps(f"reading {args.name if form.made else args.source}")
    try:
        dataset = form.read(args)
    finally:
        steps.close()
    summary = write(dataset, destination, progress_bar)
    if args.json:
        write_file(Path(args.json), (json.dumps(_to_json(summary), indent=2) + "\n").encode())
    print(_table(summary))
    return 0


def _destination(form: DatasetFormat, args: Namespace) -> Destination:
    """The folder to make; sets args.name."""
    top = Path(args.destination)
    if top.name in ("", ".."):
        top = top.resolve()
    if form.made:
        args.name = form.made
        return Destination(top / form.made, top, args.absolute)
    args.name = args.name or top.name or args.form
    return Destination(top, top, args.absolute)


def _rows(summary: Summary) -> list[tuple[str, int]]:
    rows = [(f"{split} images", count) for split, count in summary.images.items()]
    if summary.boxes is not None:
        rows += [("boxes", summary.boxes), ("of them clipped", summary.clipped)]
        rows += [("dropped: no area", summary.dropped)]
    rows += [(f"left out: {note}", count) for note, count in summary.notes.items() if count]
    return [*rows, ("skipped images", len(summary.skipped))]


def _table(summary: Summary) -> str:
    from terminaltables import AsciiTable

    rows = [[text, f"{count:,}"] for text, count in _rows(summary)]
    table = AsciiTable(rows)
    table.inner_heading_row_border = False
    table.justify_columns = {1: "right"}
    lines = [f"skipped {each.name}: {each.reason}" for each in summary.skipped[:SHOWN]]
    more = len(summary.skipped) - SHOWN
    lines += [f"… and {more:,} more"] if more > 0 else []
    return "\n".join([table.table, *lines, f"Written: {summary.data}"])


def _to_json(summary: Summary) -> dict[str, Any]:
    return {**asdict(summary), "data": str(summary.data)}
