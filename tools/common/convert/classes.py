"""convert.py classes: a cfg for another number of classes."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from common.command import check_outputs
from common.convert import Converter
from yolo.datasets.formats.options import positive


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("cfg", metavar="CFG", help="the network")
    parser.add_argument("out", metavar="OUT", help="the cfg to write")
    count = parser.add_mutually_exclusive_group(required=True)
    count.add_argument("--data", metavar="DATA", help="a .data or .yaml file that names them")
    count.add_argument("--num", type=positive, help="how many there are")


def _run(args: Namespace) -> int:
    check_outputs([Path(args.out)], [args.cfg])
    from yolo.cfg import Cfg
    from yolo.datasets import sources
    from yolo.models.classes import with_classes  # with torch, which --help doesn't wait for

    count = args.num or sources.load(args.data).classes
    with_classes(Cfg.load(args.cfg), count).write(args.out)
    print(f"Written: {args.out} for {count} classes")
    return 0


CONVERTER = Converter(_add_options, _run)
