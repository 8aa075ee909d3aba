"""Make Darknet data sets of others: images/, labels/, train.txt, valid.txt, X.names, X.data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from common.command import Help, Parser, run
from common.convert import CONVERTERS, Converter
from common.convert.dataset import dataset_converter

from yolo.datasets.formats import FORMATS
from yolo.registry import Entry

EPILOG = (
    "DST appears whole or not at all; images are hard links where the file system has them "
    "(to change one in place changes the original, too). All "
    "paths are relative to the .data file and the lists, so DST can be moved; Darknet itself "
    "reads paths from the working directory: use --absolute for it. Boxes are clipped to their "
    "images; those without area are dropped; images that can't be read are skipped."
)


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=Help, epilog=EPILOG)
    forms = parser.add_subparsers(dest="form", required=True, metavar="FORM")
    for entry in FORMATS.values():
        text = f"{entry.name}: {entry.text}"
        _add(forms, entry, dataset_converter, description=text, formatter_class=Help, epilog=EPILOG)
    for entry in CONVERTERS.values():
        _add(forms, entry, lambda converter: converter, description=entry.text)
    return parser.parse_args()


def _add(forms: Any, entry: Entry, converter: Callable[[Any], Converter], **look: Any) -> None:
    """A sub-command; only the one that is asked for is loaded."""
    parser = forms.add_parser(entry.name, help=entry.text, **look)
    if entry.name in sys.argv[1:2]:
        chosen = converter(entry.load())
        chosen.add_options(parser)
        parser.set_defaults(run=chosen.run)


def main() -> int:
    args = arguments()
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    run(main)
