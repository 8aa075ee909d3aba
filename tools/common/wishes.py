"""What is to be cut, on the command line: the options, their checks, and the wish they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import listed, sections
from pruning.options import (
    ALL_STRATEGIES,
    BLOCK_STRATEGIES,
    COMPARISONS,
    GROUP_SCORES,
    IMPORTANCES,
    SENSITIVITY,
)
from pruning.targets import KINDS, parse_targets
from yolo.errors import DarknetError, PlanError

if TYPE_CHECKING:
    from pruning.selection import Wish

PERCENT = 0.5  # where nothing else is asked for
POWERS = "pow2"
_RANKING = ("percent", "importance", "scan", "group", "compare", "per_mac", "layer_keep", "round")
USELESS = {
    "bayesian": ("target", "blocks", *_RANKING),  # thresholds take their place
    "layer": ("thresholds", *_RANKING),
    "slim+layer": ("thresholds",),
}


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what is to be cut."""
    model = parser.add_argument_group("model")
    model.add_argument("--cfg", help="the network; a .pt file carries its own")
    model.add_argument(
        "--weights",
        required=True,
        help="its weights, or a .pt; random[:SEED] makes trained-looking ones",
    )


def add_wish_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say what is cut; wish_of makes a wish of them."""
    _add_how_far(parser.add_argument_group("what is cut, and how far"))
    _add_order(parser.add_argument_group("which channels go first"))
    _add_what_stays(parser.add_argument_group("what stays"))


def _add_how_far(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--strategy", choices=ALL_STRATEGIES, default="normal", help=listed(ALL_STRATEGIES)
    )
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--percent",
        type=float,
        help=f"share of the channels in question, in [0, 1); default: {PERCENT}",
    )
    kinds = listed({name: kind.text for name, kind in KINDS.items()})
    either.add_argument(
        "--target",
        action="append",
        metavar="T",
        help="cut until no more than this is left, as in macs=0.5,bytes=2M: shares of the "
        "original, or numbers with k, M or G; ms and map-drop as in ms=12,map-drop=0.01 are "
        f"measured; all of them hold; {kinds}",
    )
    group.add_argument(
        "--blocks",
        type=int,
        metavar="N",
        help=f"residual blocks that go as a whole, for {' and '.join(BLOCK_STRATEGIES)}",
    )
    group.add_argument(
        "--thresholds",
        metavar="T",
        help="of log α for the strategy bayesian, in place of all that ranks and counts channels: "
        "a number, one for each Bayesian section as in -3,-5,auto, or auto, the default: in the "
        "gap between the two piles that a section's groups make",
    )
    group.add_argument(
        "--reduced",
        action="store_true",
        help="write the weights of bayesian in reduced precision; with --calibrate BN's statistics "
        "are measured anew behind them",
    )
    group.add_argument(
        "--plan",
        metavar="FILE",
        help="apply a saved plan; the other options here and below are then without effect",
    )


def _add_order(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--importance",
        choices=IMPORTANCES,
        help=f"{listed(IMPORTANCES)}; default: bn, least-squares with images, sensitivity with "
        "--scan",
    )
    group.add_argument(
        "--scan",
        metavar="FILE",
        help=f"the .json file of a scan, for --importance {SENSITIVITY}, which it implies: what is "
        "lost where a single family of channels is cut, and how far: of mAP or top-1 with --data, "
        "else how far the heads are off, on images of --calibrate or on noise. Made where it isn't "
        "there, gone on with where it was interrupted, used where it is complete; a picture goes "
        "beside it",
    )
    group.add_argument(
        "--group",
        choices=GROUP_SCORES,
        help=f"score of coupled channels: {listed(GROUP_SCORES)}; default: first, union for slim",
    )
    group.add_argument(
        "--compare", choices=COMPARISONS, help=f"{listed(COMPARISONS)}; default: global"
    )
    group.add_argument(
        "--per-mac",
        action=argparse.BooleanOptionalAction,
        help="divide a score by the MACs that go with it; default for least-squares, sensitivity",
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="of --importance random")


def _add_what_stays(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--keep-min", type=int, default=1, metavar="N", help="channels that every layer keeps"
    )
    group.add_argument(
        "--layer-keep",
        type=float,
        metavar="SHARE",
        help="of its channels that every layer keeps; default: 0.01 for slim, else 0",
    )
    group.add_argument(
        "--round",
        metavar="N",
        help=f"round every count up to a multiple of N, or to a power of two: {POWERS}",
    )
    group.add_argument("--spare", type=sections, default=(), metavar="I,J", help="don't cut these")
    group.add_argument("--only", type=sections, metavar="I,J", help="cut only these")


def check_wish(args: argparse.Namespace) -> None:
    """Raises DarknetError for what can't be meant, before any file is read."""
    if args.keep_min < 1:
        raise DarknetError(f"--keep-min {args.keep_min}: expected at least 1")
    _rounding(args.round)
    useless = USELESS.get(args.strategy, ("thresholds", "blocks"))
    for name in () if args.plan else useless:
        value = getattr(args, name)
        if value is not None:
            flag = f"--{name.replace('_', '-')}" + ("" if value is True else f" {_plain(value)}")
            raise PlanError(f"{flag}: the strategy {args.strategy} has no use for it")
    _check_scan(args)
    _target(args)


def wish_of(args: argparse.Namespace) -> Wish:
    """The wish that the options make."""
    from pruning.selection import Wish

    return Wish(
        args.strategy,
        _percent(args),
        args.group,
        args.keep_min,
        args.spare,
        args.only,
        _rounding(args.round),
        target=_target(args),
        importance=args.importance,
        compare=args.compare or Wish.compare,
        per_mac=args.per_mac,
        layer_keep=args.layer_keep,
        seed=args.seed,
        blocks=args.blocks,
    )


def _check_scan(args: argparse.Namespace) -> None:
    """Raises PlanError where there is a scan without its importance, or the other way round."""
    if args.plan:
        return
    if args.scan and args.importance not in (None, SENSITIVITY):
        what = f"--scan is for {SENSITIVITY}"
        raise PlanError(f"--importance {args.importance}: {what}: leave out one of them")
    if args.importance == SENSITIVITY and not args.scan:
        raise PlanError(f"--importance {SENSITIVITY}: needs a scan: --scan FILE")


def stem_of(args: argparse.Namespace) -> str:
    """A name for the result: CFG-STRATEGY, what ranks where that is said, and how far it goes."""
    stem, target = Path(args.cfg or args.weights).stem, _target(args)
    if args.plan or args.strategy == "bayesian":
        kind = "plan" if args.plan else args.strategy
        return f"{stem.removesuffix('-bayesian')}-{kind}"
    far = f"{_percent(args):g}" if target is None else target.replace("=", "").replace(",", "-")
    parts = [asked for asked in (args.importance, args.compare) if asked]
    parts += [] if args.blocks is None else [str(args.blocks)]
    parts += [] if args.strategy == "layer" and target is None else [far]
    return "-".join([stem, args.strategy, *parts])


def _percent(args: argparse.Namespace) -> float | None:
    """The share to cut; thresholds, blocks or a target may take its place."""
    if args.percent is None and not args.target:
        return 0.0 if args.strategy in ("bayesian", "layer") else PERCENT
    percent: float | None = args.percent
    return percent


def _target(args: argparse.Namespace) -> str | None:
    """All targets as one text; raises PlanError."""
    if not args.target or args.plan:
        return None
    return ",".join(map(str, parse_targets(_plain(args.target))))


def _rounding(text: str | None) -> int | None:
    if text is None:
        return None
    if text == POWERS:
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise DarknetError(f"--round {text}: expected at least 1, or {POWERS}")
    return int(text)


def _plain(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
