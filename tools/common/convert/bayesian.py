"""convert.py bayesian: a cfg whose weights are distributions."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from common.command import check_outputs, listed, sections
from common.convert import Converter
from pruning.registry import PRIORS


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("cfg", metavar="CFG", help="the network")
    parser.add_argument("out", metavar="OUT", help="the cfg to write")
    parser.add_argument(
        "--prior",
        choices=PRIORS,
        default="gnj",
        help=f"{listed(PRIORS)} (default: %(default)s)",
    )
    parser.add_argument("--spare", type=sections, default=(), metavar="I,J", help="leave these")


def _run(args: Namespace) -> int:
    check_outputs([Path(args.out)], [args.cfg])
    from pruning.bayesian.convert import (
        with_posteriors,  # with torch, which --help doesn't wait for
    )
    from yolo.cfg import Cfg

    plain = Cfg.load(args.cfg)
    bayesian = with_posteriors(plain, args.prior, args.spare)
    bayesian.write(args.out)
    count = sum(section.type.startswith("bayesian_") for section in bayesian.layers)
    print(f"Written: {args.out} with {count} Bayesian sections")
    return 0


CONVERTER = Converter(_add_options, _run)
