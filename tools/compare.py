"""Compare ways to prune a Darknet model: many cuts, one table, one picture."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import INTERRUPTED, Parser, Steps, check_outputs, listed, program, run
from common.spec import add_image_arguments, add_model_arguments, check_images, inputs_of

from pruning.registry import CALIBRATION_IMAGES, IMPORTANCES, RECOVERIES, SCAN, STRATEGIES
from yolo.errors import DarknetError

if TYPE_CHECKING:
    from pruning.run.compare import Request
    from pruning.run.comparison import Comparison, Outcome

STRATEGY, IMPORTANCE, WITH_IMAGES = "normal,shortcut,slim", "bn,bn-next", "least-squares"
SCORES = {name: entry for name, entry in IMPORTANCES.items() if entry.needs != SCAN}
COMPARED = {name: entry for name, entry in STRATEGIES.items() if "targets" in entry.accepts}
EVERYDAY = {
    "cfg": "the network",
    "weights": "its .weights file, or a .pt of train.py",
    "targets": "the budgets, as in macs=0.8,macs=0.5: a cut for each of them",
    "strategies": "as in normal,shortcut: see prune.py",
    "importances": "as in bn,least-squares: see prune.py",
    "recover": "as in fold,reconstruct: see prune.py",
    "calibrate": "pictures without labels, a folder or a list: keeps much more accuracy",
    "data": "a .data or .yaml file: compares mAP or top-1; else the error at the heads",
    "runs": "timed forward passes in OpenCV, 0 for none; default: 10",
    "out": "folder for compare.json, .csv and .png; default: compared",
}


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        everyday=EVERYDAY,
        example="python tools/compare.py --cfg my.cfg --weights my.weights --data my.data\n"
        "         --calibrate photos/ --targets macs=0.8,macs=0.5",
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
        "--strategies", type=names, default=STRATEGY, metavar="LIST", help=listed(COMPARED)
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
    add_image_arguments(parser.add_argument_group("images"))
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

    from pruning.run.compare import compared
    from pruning.run.comparison import Comparison, dump, load
    from yolo.files import write_file

    interrupted = False
    try:
        request = _request(args)
        keys, outcomes = request.keys(), load(files["json"])
        try:
            for outcome in compared(request, outcomes, steps):
                outcomes[outcome.key] = outcome
                write_file(files["json"], dump(outcomes, keys.values()).encode())
        except KeyboardInterrupt:
            interrupted = True
        comparison = Comparison.of(keys, outcomes)
        if comparison is None:  # interrupted before anything was made
            raise KeyboardInterrupt
        steps("drawing")
        _write(comparison, files, args)
        best = {outcome.key for outcome in comparison.best.values()}
        write_file(files["json"], dump(outcomes, keys.values(), best).encode())
    finally:
        steps.close()
    print(comparison.tables())
    for target, outcome in comparison.best.items():
        print(f"Best for {target}: {_command(request, outcome)}")
    print(f"Written: {Path(args.out) / 'compare'}.json, .csv and .png")
    if interrupted:
        count = len(comparison.outcomes)
        print(f"Interrupted: {count} of {len(keys) - 1} cuts are made; the same command goes on.")
    return INTERRUPTED if interrupted else 0


def _check(args: argparse.Namespace) -> None:
    if args.runs < 0:
        raise DarknetError(f"--runs {args.runs}: expected at least 0")
    check_images(args)


def _request(args: argparse.Namespace) -> Request:
    from pruning.run.compare import Request

    images = args.calibrate is not None
    importances = names(f"{IMPORTANCE},{WITH_IMAGES}" if images else IMPORTANCE)
    recoveries = ("fold", "reconstruct") if images else ("fold",)
    return Request(
        inputs_of(args),
        args.strategies,
        importances if args.importances is None else args.importances,
        args.targets,
        recoveries if args.recover is None else args.recover,
        args.runs,
    )


def _write(comparison: Comparison, files: dict[str, Path], args: argparse.Namespace) -> None:
    from pruning.run.figures import compared_cuts
    from yolo.figures import png
    from yolo.files import content_writer, write_files

    picture = png(compared_cuts(comparison, Path(args.cfg or args.weights).stem))
    contents = {"csv": comparison.to_csv().encode(), "png": picture}
    write_files([(files[kind], content_writer(content)) for kind, content in contents.items()])


def _command(request: Request, outcome: Outcome) -> str:
    """The command that makes, proves and writes a cut."""
    from pruning.run.compare import needs_images

    inputs, combination = request.inputs, outcome.combination
    assert combination
    options = {"cfg": inputs.cfg, "weights": inputs.weights, **asdict(combination)}
    if needs_images(request.specs()[combination]):
        options["calibrate"] = inputs.calibrate
        if inputs.calibration_images != CALIBRATION_IMAGES:
            options["calibration-images"] = str(inputs.calibration_images)
    words = [word for name, value in options.items() if value for word in (f"--{name}", value)]
    return f"{program('prune')} {shlex.join(words)}"


if __name__ == "__main__":
    run(main)
