"""Compare ways to prune a Darknet model: many cuts, one table, one picture."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import INTERRUPTED, Help, Parser, Steps, check_outputs, listed, run
from common.wishes import add_model_arguments

from pruning.options import (
    CALIBRATION_IMAGES,
    IMPORTANCES,
    RECOVERIES,
    SENSITIVITY,
    STRATEGIES,
)
from yolo.errors import DarknetError
from yolo.evaluation.results import POINTS

if TYPE_CHECKING:
    from pruning.run.compare import Comparison, Outcome
    from pruning.run.request import Request

STRATEGY, IMPORTANCE, WITH_IMAGES = "normal,shortcut,slim", "bn,bn-next", "least-squares"
SCORES = {name: text for name, text in IMPORTANCES.items() if name != SENSITIVITY}


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        formatter_class=Help,
        epilog="The same command goes on where it was interrupted; where a list has become longer "
        "it makes only what is new. No model is written: tools/prune.py makes the chosen one, and "
        "proves it. Exit codes: 0 done, 2 wrong input, 130 interrupted.",
    )
    add_model_arguments(parser)
    cuts = parser.add_argument_group("what is compared: every combination of")
    cuts.add_argument(
        "--targets",
        type=names,
        required=True,
        metavar="LIST",
        help="as in macs=0.7,macs=0.5,params=1M: each is a cut of its own; see prune.py",
    )
    cuts.add_argument(
        "--strategies", type=names, default=STRATEGY, metavar="LIST", help=listed(STRATEGIES)
    )
    cuts.add_argument(
        "--importances",
        type=names,
        metavar="LIST",
        help=f"{listed(SCORES)}; default: {IMPORTANCE}, and {WITH_IMAGES} with images",
    )
    cuts.add_argument(
        "--recover",
        type=names,
        metavar="LIST",
        help=f"{listed(RECOVERIES)}; default: fold, and reconstruct with images",
    )
    images = parser.add_argument_group("images")
    images.add_argument(
        "--data",
        metavar="FILE",
        help="a .data or .yaml file: its validation images tell mAP or top-1; without it is told "
        "how far the heads are off on images of --calibrate, or else on noise",
    )
    images.add_argument(
        "--points", type=int, choices=POINTS, default=0, help="rule for mAP: see test.py"
    )
    images.add_argument(
        "--calibrate",
        metavar="IMAGES",
        help="a folder, a .txt list or a .data file (its images to train on), without labels",
    )
    images.add_argument(
        "--calibration-images",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help="how many of them, evenly spread",
    )
    parser.add_argument(
        "--runs",
        type=int,
        default=10,
        metavar="N",
        help="forward passes that OpenCV is timed with, original and cut alternately; 0: none",
    )
    parser.add_argument(
        "--out", default="compared", metavar="DIR", help="for compare.json, .csv and .png"
    )
    return parser.parse_args()


def names(text: str) -> tuple[str, ...]:
    """a,b → ("a", "b")"""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def main() -> int:
    args = arguments()
    _check(args)
    steps = Steps()
    steps("starting")
    files = {kind: Path(args.out) / f"compare.{kind}" for kind in ("json", "csv", "png")}
    check_outputs(list(files.values()), [args.cfg, args.weights, args.data, args.calibrate])
    from pruning.run.compare import Comparison, dump, load
    from pruning.run.trials import make
    from yolo.files import write_file

    interrupted = False
    try:
        request = _request(args)
        request.check()
        keys, known = request.keys(), load(files["json"])
        try:
            for outcome in make(request, known, steps):
                known[outcome.key] = outcome
                write_file(files["json"], dump(known, keys.values()).encode())
        except KeyboardInterrupt:
            interrupted = True
        comparison = Comparison.of(keys, known)
        if comparison is None:  # interrupted before anything was made
            raise KeyboardInterrupt
        steps("drawing")
        _write(comparison, files, args)
        best = {outcome.key for outcome in comparison.best.values()}
        write_file(files["json"], dump(known, keys.values(), best).encode())
    finally:
        steps.close()
    print(comparison.tables())
    for target, outcome in comparison.best.items():
        print(f"Best for {target}: {_command(request, outcome)}")
    print(f"Written: {Path(args.out) / 'compare'}.json, .csv and .png")
    if interrupted:
        made = len(comparison.outcomes)
        print(f"Interrupted: {made} of {len(keys) - 1} cuts are made; the same command goes on.")
    return INTERRUPTED if interrupted else 0


def _check(args: argparse.Namespace) -> None:
    for name, least in (("runs", 0), ("calibration_images", 1)):
        if getattr(args, name) < least:
            option = name.replace("_", "-")
            raise DarknetError(f"--{option} {getattr(args, name)}: expected at least {least}")
    if args.points and not args.data:
        raise DarknetError(f"--points {args.points}: needs --data")


def _request(args: argparse.Namespace) -> Request:
    from pruning.run.request import Request

    images = args.calibrate is not None
    importances = names(f"{IMPORTANCE},{WITH_IMAGES}" if images else IMPORTANCE)
    recoveries = ("fold", "reconstruct") if images else ("fold",)
    return Request(
        args.cfg,
        args.weights,
        args.strategies,
        importances if args.importances is None else args.importances,
        args.targets,
        recoveries if args.recover is None else args.recover,
        data=args.data,
        points=args.points,
        calibrate=args.calibrate,
        calibration_images=args.calibration_images,
        runs=args.runs,
    )


def _write(comparison: Comparison, files: dict[str, Path], args: argparse.Namespace) -> None:
    from pruning.run.figures import compared_cuts
    from yolo.files import content_writer, write_files
    from yolo.png import png

    picture = png(compared_cuts(comparison, Path(args.cfg or args.weights).stem))
    contents = {"csv": comparison.to_csv().encode(), "png": picture}
    write_files([(files[kind], content_writer(content)) for kind, content in contents.items()])


def _command(request: Request, outcome: Outcome) -> str:
    """What makes, proves and writes a cut."""
    from pruning.run.request import wants_images

    cut = outcome.cut
    given = {"cfg": request.cfg, "weights": request.weights, **asdict(cut)}
    if wants_images(cut):
        given["calibrate"] = request.calibrate
        if request.calibration_images != CALIBRATION_IMAGES:
            given["calibration-images"] = str(request.calibration_images)
    words = [word for name, value in given.items() if value for word in (f"--{name}", value)]
    return shlex.join(["python", "tools/prune.py", *words])


if __name__ == "__main__":
    run(main)
