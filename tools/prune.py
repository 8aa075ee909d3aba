"""Prune a Darknet model: cfg and weights in, smaller cfg and weights out, with a proof."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from command import Help, Parser, Steps, check_outputs, listed, run, sections

from pruning.options import ALL_STRATEGIES, ENGINES, FOLDS, GROUP_SCORES
from yolo.errors import DarknetError, PlanError
from yolo.results import POINTS

if TYPE_CHECKING:
    from pruning.job import Result

PERCENT = 0.5  # where none is asked for


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        formatter_class=Help,
        epilog="Exit codes: 0 done, 1 a proof failed, 2 wrong input, "
        "130 interrupted. Sections are counted as "
        "Darknet does: the first behind [net] is 0; tools/info.py lists them.",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--cfg", help="the network; a .pt file carries its own")
    model.add_argument(
        "--weights",
        required=True,
        help="its weights, or a .pt; random[:SEED] makes trained-looking ones",
    )
    what = parser.add_argument_group("what is cut")
    what.add_argument(
        "--strategy", choices=ALL_STRATEGIES, default="normal", help=listed(ALL_STRATEGIES)
    )
    what.add_argument(
        "--percent",
        type=float,
        help=f"share of the channels in question, in [0, 1); default: {PERCENT}",
    )
    what.add_argument(
        "--group", choices=GROUP_SCORES, help="score of coupled channels; default: first"
    )
    what.add_argument(
        "--keep-min", type=int, default=1, metavar="N", help="channels that every layer keeps"
    )
    what.add_argument(
        "--round", type=int, metavar="N", help="round every count up to a multiple of N"
    )
    what.add_argument(
        "--thresholds",
        metavar="T",
        help="of log α for the strategy bayesian, in place of --percent, --group and --round: a "
        "number, one for each Bayesian section as in -3,-5,auto, or auto, the default: in the gap "
        "between the two piles that a section's groups make",
    )
    what.add_argument(
        "--reduced", action="store_true", help="write the weights of bayesian in reduced precision"
    )
    what.add_argument("--spare", type=sections, default=(), metavar="I,J", help="don't cut these")
    what.add_argument("--only", type=sections, metavar="I,J", help="cut only these")
    what.add_argument(
        "--plan",
        metavar="FILE",
        help="apply a saved plan; the other options here are then without effect",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--fold", choices=FOLDS, default="auto", help=listed(FOLDS))
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
        "--runs", type=int, default=5, metavar="N", help="runs for the median latency, 0: none"
    )
    out = parser.add_argument_group("output")
    out.add_argument("--out", default="pruned", metavar="DIR", help="for the files")
    out.add_argument("--name", metavar="STEM", help="of the files; default: CFG-STRATEGY-PERCENT")
    out.add_argument("--save-plan", metavar="FILE", help="write the plan")
    out.add_argument("--json", metavar="FILE", help="write the report there, too")
    out.add_argument("--figures", metavar="DIR", help="draw what is kept of every section")
    out.add_argument("--dry-run", action="store_true", help="show the plan, write nothing else")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    verify = _proofs(args.verify)
    _check(args)
    steps = Steps()
    steps("starting")
    folder, stem = Path(args.out), args.name or _stem(args)
    extra = _extra_files(args, folder, stem)
    from pruning.job import Job, prune, result_files
    from pruning.strategies import Wish
    from yolo.files import content_writer, write_files
    from yolo.models import is_random

    wish = Wish(
        args.strategy,
        _percent(args),
        args.group or Wish.group,
        args.keep_min,
        args.spare,
        args.only,
        args.round,
    )
    runs = 0 if args.dry_run else args.runs
    proofs = () if args.dry_run else verify
    job = Job(
        args.cfg,
        args.weights,
        wish,
        fold=args.fold,
        plan=args.plan,
        verify=proofs,
        darknet=args.darknet,
        runs=runs,
        data=args.data,
        points=args.points,
        thresholds=args.thresholds,
        reduced=args.reduced,
        progress=steps,
    )
    try:
        result = prune(job)
        contents = {
            "plan": lambda: result.plan.to_json().encode(),
            "report": lambda: result.report.to_json(result_files(folder, stem)).encode(),
            "figure": lambda: _figure(result),
        }
        made = [(path, contents[kind]()) for kind, path in extra.items()]
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
    extra = {"plan": args.save_plan, "report": None if args.dry_run else args.json}
    found = {kind: Path(path) for kind, path in extra.items() if path}
    if args.figures:
        found["figure"] = Path(args.figures) / f"{stem}-channels.png"
    kinds = () if args.dry_run else ("cfg", "weights", "json")
    result = [folder / f"{stem}.{kind}" for kind in kinds]
    check_outputs([*result, *found.values()], [args.cfg, args.weights, args.plan, args.data])
    return found


def _figure(result: Result) -> bytes:
    from pruning.figures import kept_channels
    from yolo.png import png

    return png(kept_channels(result.graph, result.report))


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
    for name, least in (("keep_min", 1), ("round", 1), ("runs", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise DarknetError(f"--{name.replace('_', '-')} {value}: expected at least {least}")
    if args.points and not args.data:
        raise DarknetError(f"--points {args.points}: needs --data")
    useless = ("percent", "group", "round") if args.strategy == "bayesian" else ("thresholds",)
    for name in () if args.plan else useless:
        value = getattr(args, name)
        if value is not None:
            raise PlanError(f"--{name} {value}: the strategy {args.strategy} has no use for it")


def _percent(args: argparse.Namespace) -> float:
    """The share to cut; thresholds take its place in a Bayesian network."""
    if args.percent is None:
        return 0.0 if args.strategy == "bayesian" else PERCENT
    return args.percent


def _stem(args: argparse.Namespace) -> str:
    stem = Path(args.cfg or args.weights).stem
    if args.plan or args.strategy == "bayesian":
        kind = "plan" if args.plan else args.strategy
        return f"{stem.removesuffix('-bayesian')}-{kind}"
    return f"{stem}-{args.strategy}-{_percent(args):g}"


if __name__ == "__main__":
    run(main)
