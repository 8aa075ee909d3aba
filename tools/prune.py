"""Prune a Darknet model: cfg and weights in, smaller cfg and weights out, with a proof."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import Help, Parser, Steps, check_outputs, listed, run
from common.gradual import add_step_arguments, check_steps, prune_in_steps
from common.wishes import add_model_arguments, add_wish_arguments, check_wish, stem_of, wish_of

from pruning.options import CALIBRATION_IMAGES, ENGINES, FOLDS, RECOVERIES
from yolo.errors import DarknetError
from yolo.evaluation.results import POINTS

if TYPE_CHECKING:
    from pruning.run.result import Result


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        formatter_class=Help,
        epilog="Exit codes: 0 done, 1 a proof failed, 2 wrong input, "
        "130 interrupted. Sections are counted as "
        "Darknet does: the first behind [net] is 0; tools/info.py lists them.",
    )
    add_model_arguments(parser)
    add_wish_arguments(parser)
    how = parser.add_argument_group("how")
    how.add_argument("--fold", choices=FOLDS, default="auto", help=listed(FOLDS))
    how.add_argument(
        "--calibrate",
        metavar="IMAGES",
        help="a folder, a .txt list or a .data file (its images to train on): unlabeled images "
        "that tell which channels can be made up for, and by which weights",
    )
    how.add_argument(
        "--calibration-images",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help="how many of them, evenly spread",
    )
    how.add_argument(
        "--recover",
        choices=RECOVERIES,
        help=f"{listed(RECOVERIES)}; default: reconstruct with images, else fold",
    )
    how.add_argument(
        "--verify",
        metavar="LIST",
        help=f"proofs to make, of {','.join(ENGINES)}, or none; default: all that can be made",
    )
    how.add_argument("--darknet", metavar="PATH", help="a Darknet library, or its binary")
    how.add_argument(
        "--data",
        metavar="FILE",
        help="a .data or .yaml file: tell mAP or top-1 of its validation images before and after",
    )
    how.add_argument(
        "--points",
        type=int,
        choices=POINTS,
        default=0,
        help="rule for its mAP: see test.py; default: 0",
    )
    how.add_argument(
        "--runs", type=int, default=5, metavar="N", help="runs to measure latencies in, 0: none"
    )
    how.add_argument(
        "--latencies",
        metavar="FILE",
        help="what sections take on this machine, for --target ms=…: used and added to; default: "
        "darknet-pruning/latencies.json in ~/.cache",
    )
    add_step_arguments(parser)
    out = parser.add_argument_group("output")
    out.add_argument("--out", default="pruned", metavar="DIR", help="for the files")
    out.add_argument(
        "--name",
        metavar="STEM",
        help="of the files; default: CFG-STRATEGY-PERCENT or the target, with what ranks where "
        "that is said",
    )
    out.add_argument("--save-plan", metavar="FILE", help="write the plan")
    out.add_argument("--json", metavar="FILE", help="write the report there, too")
    out.add_argument(
        "--figures",
        metavar="DIR",
        help="draw what is kept of every section and what it takes, and the scores that decided",
    )
    out.add_argument("--dry-run", action="store_true", help="show the plan, write no model")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    verify = _proofs(args.verify)
    _check(args)
    gradual = check_steps(args)
    steps = Steps()
    steps("starting")
    folder, stem = Path(args.out), args.name or stem_of(args)
    extra = {} if gradual else _extra_files(args, folder, stem)
    from pruning.run.result import result_files
    from pruning.session import Job, prune
    from yolo.files import content_writer, write_files
    from yolo.models.load import is_random

    runs = 0 if args.dry_run else args.runs
    proofs = () if args.dry_run else verify
    job = Job(
        args.cfg,
        args.weights,
        wish_of(args),
        fold=args.fold,
        plan=args.plan,
        verify=proofs,
        darknet=args.darknet,
        runs=runs,
        data=args.data,
        points=args.points,
        thresholds=args.thresholds,
        reduced=args.reduced,
        calibrate=args.calibrate,
        calibration_images=args.calibration_images,
        recover=args.recover,
        latencies=args.latencies,
        scan=args.scan,
        progress=steps,
    )
    if gradual:
        return prune_in_steps(args, job, stem, steps)
    try:
        result = prune(job)
        contents = {
            "plan": lambda: result.plan.to_json().encode(),
            "report": lambda: result.report.to_json(result_files(folder, stem)).encode(),
        }
        if not (result.ranking and result.ranking.drawable):
            extra.pop("scores", None)
        made = [
            (path, contents[kind]() if kind in contents else _picture(kind, result, args))
            for kind, path in extra.items()
        ]
        made += _histograms(result, Path(args.figures), stem) if args.figures else []
        writers = [] if args.dry_run else result.writers(folder, stem)
        write_files([*writers, *((path, content_writer(content)) for path, content in made)])
    finally:
        steps.close()
    print(result.report.tables(proof=not args.dry_run))
    if is_random(args.weights):
        print("The weights were made up: this shows what a cut costs, not what it keeps.")
    if args.dry_run:
        print("Dry run: no model is written.")
    else:
        print(f"Written: {folder / stem}.cfg, .weights and .json")
    return 0


def _extra_files(args: argparse.Namespace, folder: Path, stem: str) -> dict[str, Path]:
    """Files beside the result's three; what can't be written is said before the work."""
    from yolo.files import check_writable

    extra = {"plan": args.save_plan, "report": None if args.dry_run else args.json}
    found = {kind: Path(path) for kind, path in extra.items() if path}
    if args.figures:
        found["figure"] = Path(args.figures) / f"{stem}-channels.png"
    if args.figures:
        found["scores"] = Path(args.figures) / f"{stem}-scores.png"
    if args.figures and args.runs and not args.dry_run:
        found["latency"] = Path(args.figures) / f"{stem}-latency.png"
    kinds = () if args.dry_run else ("cfg", "weights", "json")
    result = [folder / f"{stem}.{kind}" for kind in kinds]
    if args.scan and not args.plan:
        check_writable(Path(args.scan))
        found["scan"] = Path(args.scan).with_suffix(".png")
    kept = [Path(path) for path in (args.latencies, args.scan) if path]
    check_outputs([*result, *found.values(), *kept], [args.cfg, args.weights, args.plan, args.data])
    return found


def _picture(kind: str, result: Result, args: argparse.Namespace) -> bytes:
    """What _extra_files names so, as a .png."""
    from pruning.run import figures
    from pruning.selection.sensitivity import Scan
    from yolo.png import png

    if kind == "scan":
        scan = Scan.load(Path(args.scan))
        assert scan is not None
        return png(figures.sensitivities(scan, Path(args.cfg or args.weights).stem))
    if kind == "scores":
        assert result.ranking is not None
        return png(figures.ranked_scores(result.ranking, result.fold, result.report))
    if kind == "latency":
        return png(figures.section_latencies(result.report))
    return png(figures.kept_channels(result.shorter, result.report))


def _histograms(result: Result, folder: Path, stem: str) -> list[tuple[Path, bytes]]:
    """A page of the groups of all Bayesian sections, and a picture of each; else nothing."""
    if not result.bayesian:
        return []
    from pruning.bayesian.figures import histogram, overview
    from yolo.png import png

    cut = result.bayesian
    drawn = cut.panels()
    found = [(folder / f"{stem}-groups.png", png(overview(drawn)))]
    for index, (title, values, threshold) in zip(cut.excess, drawn, strict=True):
        picture = png(histogram(values, threshold, title))
        found.append((folder / f"{stem}-groups-{index}.png", picture))
    return found


def _proofs(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = () if text == "none" else tuple(text.split(","))
    for name in names:
        if name not in ENGINES:
            expected = f"some of {','.join(ENGINES)}, or none"
            raise DarknetError(f"--verify {text}: expected {expected}")
    return names


def _check(args: argparse.Namespace) -> None:
    check_wish(args)
    if args.runs < 0:
        raise DarknetError(f"--runs {args.runs}: expected at least 0")
    if args.calibration_images < 1:
        raise DarknetError(f"--calibration-images {args.calibration_images}: expected at least 1")
    if args.points and not args.data:
        raise DarknetError(f"--points {args.points}: needs --data")


if __name__ == "__main__":
    run(main)
