"""Prune a Darknet model: cfg and weights in, smaller cfg and weights out, with a proof."""

from __future__ import annotations

import argparse
from pathlib import Path

from command import Help, Parser, Steps, listed, run, sections

from pruning.options import ENGINES, FOLDS, GROUP_SCORES, STRATEGIES


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        formatter_class=Help,
        epilog="Exit codes: 0 done, 1 a proof failed, 2 wrong input. Sections are counted as "
        "Darknet does: the first behind [net] is 0; tools/info.py lists them.",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--cfg", required=True, help="the network")
    model.add_argument(
        "--weights", required=True, help="its weights; random[:SEED] makes trained-looking ones"
    )
    what = parser.add_argument_group("what is cut")
    what.add_argument("--strategy", choices=STRATEGIES, default="normal", help=listed(STRATEGIES))
    what.add_argument(
        "--percent", type=float, default=0.5, help="share of the channels in question, in [0, 1)"
    )
    what.add_argument(
        "--group", choices=GROUP_SCORES, default="first", help="score of coupled channels"
    )
    what.add_argument(
        "--keep-min", type=int, default=1, metavar="N", help="channels that every layer keeps"
    )
    what.add_argument(
        "--round", type=int, metavar="N", help="round every count up to a multiple of N"
    )
    what.add_argument("--spare", type=sections, default=(), metavar="I,J", help="don't cut these")
    what.add_argument("--only", type=sections, metavar="I,J", help="cut only these")
    what.add_argument("--plan", metavar="FILE", help="apply a saved plan instead")
    how = parser.add_argument_group("how")
    how.add_argument("--fold", choices=FOLDS, default="auto", help=listed(FOLDS))
    how.add_argument(
        "--verify",
        metavar="LIST",
        help=f"proofs to make, of {','.join(ENGINES)}, or none; default: all that can be made",
    )
    how.add_argument("--darknet", metavar="PATH", help="a Darknet library, or its binary")
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
    _check_targets(args, folder, stem)
    from pruning.job import Job, prune, result_files
    from pruning.strategies import Wish

    wish = Wish(
        args.strategy,
        args.percent,
        args.group,
        args.keep_min,
        args.spare,
        args.only,
        args.round,
    )
    runs = 0 if args.dry_run else args.runs
    proofs = () if args.dry_run else verify
    job = Job(args.cfg, args.weights, wish, args.fold, args.plan, proofs, args.darknet, runs, steps)
    try:
        result = prune(job, None if args.dry_run else result_files(folder, stem))
        plan = Path(args.save_plan) if args.save_plan else None
        if not args.dry_run:
            result.write(folder, stem, Path(args.json) if args.json else None, plan)
        elif plan:
            result.plan.save(plan)
        if args.figures:
            from pruning.figures import kept_channels, save

            figure = kept_channels(result.graph, result.report)
            save(figure, Path(args.figures) / f"{stem}-channels.png")
    finally:
        steps.close()
    print(result.report.tables())
    if args.weights.startswith("random"):
        print("The weights were made up: this shows what a cut costs, not what it keeps.")
    if args.dry_run:
        print("Dry run: no model is written.")
    else:
        print(f"Written: {folder / stem}.cfg, .weights and .json")
    return 0


def _proofs(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = () if text == "none" else tuple(text.split(","))
    for name in names:
        if name not in ENGINES:
            _wrong(f"--verify {text}: expected some of {','.join(ENGINES)}, or none")
    return names


def _check(args: argparse.Namespace) -> None:
    for name, least in (("keep_min", 1), ("round", 1), ("runs", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            _wrong(f"--{name.replace('_', '-')} {value}: expected at least {least}")


def _check_targets(args: argparse.Namespace, folder: Path, stem: str) -> None:
    """What can't be written is said before the work, not after it."""
    from yolo.files import check_writable

    targets = [Path(path) for path in (args.save_plan, args.json) if path]
    if not args.dry_run:
        targets += [folder / f"{stem}.{kind}" for kind in ("cfg", "weights", "json")]
    for target in targets:
        check_writable(target)
        for given in (args.cfg, args.weights, args.plan):
            if given and target.exists() and Path(given).exists() and target.samefile(given):
                _wrong(f"{target}: is read here, so it isn't written: choose another --out or name")


def _wrong(message: str) -> None:
    from yolo.errors import DarknetError

    raise DarknetError(message)


def _stem(args: argparse.Namespace) -> str:
    stem = Path(args.cfg).stem
    return f"{stem}-plan" if args.plan else f"{stem}-{args.strategy}-{args.percent:g}"


if __name__ == "__main__":
    run(main)
