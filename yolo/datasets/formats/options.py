"""A format as a command offers it: its options, and the function that reads with them."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass

from yolo.datasets.formats.pictures import Dataset


@dataclass(frozen=True)
class DatasetFormat:
    """`read` gets the parsed options, with `source` and `name`, and raises DataError.

    `made`: for a format without a source, the name of the data set and of its folder in DST.
    """

    add_options: Callable[[ArgumentParser], object]
    read: Callable[[Namespace], Dataset]
    made: str | None = None


def no_options(parser: ArgumentParser) -> None:
    """Add nothing, for a format without options."""


def positive(text: str) -> int:
    """The positive integer in an argument; raises ArgumentTypeError."""
    if not text.isdecimal() or not 0 < int(text) < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive integer")
    return int(text)


def add_split_options(parser: ArgumentParser, where: str) -> None:
    """--valid-share and --seed, for sources that may come without a split."""
    parser.add_argument(
        "--valid-share",
        type=float,
        default=0,
        metavar="S",
        help=f"share of the images for valid where {where}; 0: all in both lists",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of that choice")
