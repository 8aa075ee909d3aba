"""List the sections of a Darknet network, what they cost, and what cuts of it can reach."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from common.command import DONE, FAILED, Parser, Steps, check_outputs, run

from pruning.registry import STRATEGIES
from pruning.spec import Targets
from yolo.errors import DarknetError

RUNS = 3


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        epilog="Exit codes: 0 done, 1 a target can't be met, 2 wrong input.",
    )
    parser.add_argument("--cfg", required=True, help="the network")
    parser.add_argument("--weights", help="check that these weights fit it")
    parser.add_argument(
        "--cutoff", type=int, metavar="N", help="the weights file holds only the first N sections"
    )
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON, too")
    profile = parser.add_argument_group("what cuts can reach")
    profile.add_argument(
        "--profile",
        action="store_true",
        help="instead of the sections: the least that can be left, and MACs, parameters and "
        "milliseconds of ten cuts; without --weights random ones rank the channels",
    )
    profile.add_argument("--strategy", choices=STRATEGIES, help="of the cuts; default: normal")
    profile.add_argument(
        "--target", metavar="T", help="say whether this can be met, as in macs=0.5 or ms=12"
    )
    profile.add_argument(
        "--runs", type=int, metavar="N", help="runs to measure latencies in, 0: none; default: 3"
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    _check(args)
    if args.json:
        check_outputs([Path(args.json)], [args.cfg, args.weights])
    if args.profile:
        return _profile(args)
    from pruning.run.info import describe
    from yolo.files import write_file

    info = describe(args.cfg, args.weights, args.cutoff)
    if args.json:
        write_file(Path(args.json), (json.dumps(info.to_json(), indent=2) + "\n").encode())
    print(info.table())
    return DONE


def _check(args: argparse.Namespace) -> None:
    """Raises DarknetError for options that have no effect."""
    for name in ("cutoff",) if args.profile else ("strategy", "target", "runs"):
        if getattr(args, name) is not None:
            beside = "with --profile: leave it out" if args.profile else "without --profile"
            raise DarknetError(f"--{name} has no effect {beside}")
    if (args.runs or 0) < 0:
        raise DarknetError(f"--runs {args.runs}: expected at least 0")


def _profile(args: argparse.Namespace) -> int:
    """Print what cuts can reach; 1 where the target can't be met."""
    target = Targets.parse(args.target) if args.target else None
    steps = Steps()
    steps("starting")
    from pruning.run.forecast import forecast
    from yolo.files import write_file

    strategy, runs = args.strategy or "normal", RUNS if args.runs is None else args.runs
    try:
        found = forecast(args.cfg, args.weights or "random", strategy, target, runs, steps)
    finally:
        steps.close()
    if args.json:
        write_file(Path(args.json), found.to_json().encode())
    print(found.tables())
    if not args.weights:
        print("The weights are random: trained ones may lose other channels first.")
    return FAILED if found.answer and found.answer.reached is None else DONE


if __name__ == "__main__":
    run(main)
