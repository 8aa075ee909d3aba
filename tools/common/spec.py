"""The options that say what is cut, and the Spec and Inputs that they make."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import listed, sections
from pruning.registry import (
    AUTO,
    CALIBRATION_IMAGES,
    COMPARISONS,
    FOLDS,
    GROUP_SCORES,
    IMPORTANCES,
    POWERS,
    RECOVERIES,
    SENSITIVITY,
    STRATEGIES,
)
from pruning.spec import (
    KINDS,
    Amount,
    Blocks,
    Limits,
    Percent,
    Ranking,
    Saved,
    Spec,
    Targets,
    Thresholds,
    default_recovery,
    default_rounding,
)
from yolo.errors import DarknetError, PlanError
from yolo.evaluation.results import POINTS

if TYPE_CHECKING:
    from pruning.session import Inputs

PERCENT = 0.5  # where nothing else is asked for
POW2, AUTOMATIC = "pow2", "auto"
ROUNDINGS = {POW2: POWERS, AUTOMATIC: AUTO}


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that name the network."""
    model = parser.add_argument_group("model")
    model.add_argument("--cfg", help="the network; a .pt file carries its own")
    model.add_argument(
        "--weights",
        required=True,
        help="its weights, or a .pt; random[:SEED] makes trained-looking ones",
    )


def add_image_arguments(group: argparse._ArgumentGroup) -> None:
    """The options that name images, with labels and without."""
    group.add_argument(
        "--data",
        metavar="FILE",
        help="a .data or .yaml file: evaluate mAP or top-1 on its validation images",
    )
    group.add_argument(
        "--points", type=int, choices=POINTS, default=0, help="rule for mAP: see test.py"
    )
    group.add_argument(
        "--calibrate",
        metavar="IMAGES",
        help="a folder, a .txt list or a .data file (its training images), without labels: they "
        "decide which channels others can replace, and solve the weights anew",
    )
    group.add_argument(
        "--calibration-images",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help="use N of them, evenly spread",
    )


def add_spec_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of spec_of."""
    _add_amount(parser.add_argument_group("what is cut, and how far"))
    _add_ranking(parser.add_argument_group("which channels go first"))
    _add_limits(parser.add_argument_group("what stays"))
    how = parser.add_argument_group("how accuracy is kept")
    how.add_argument("--fold", choices=(*FOLDS, "none"), default="auto", help=listed(FOLDS))
    how.add_argument(
        "--recover",
        choices=RECOVERIES,
        help=f"{listed(RECOVERIES)}; default: reconstruct with images, else fold",
    )


def _add_amount(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--strategy", choices=STRATEGIES, default="normal", help=listed(STRATEGIES))
    group.add_argument(
        "--percent",
        type=float,
        help=f"share of the channels that the strategy may cut, in [0, 1); default: {PERCENT}",
    )
    group.add_argument(
        "--target",
        action="append",
        metavar="T",
        help="cut until no more than this is left, as in macs=0.5,bytes=2M: shares of the "
        "original, or numbers with k, M or G; ms and map-drop as in ms=12,map-drop=0.01 are "
        f"measured; all of them hold; {listed(KINDS)}",
    )
    blocks = " and ".join(name for name, entry in STRATEGIES.items() if entry.takes_blocks)
    group.add_argument(
        "--blocks", type=int, metavar="N", help=f"whole residual blocks to remove, for {blocks}"
    )
    group.add_argument(
        "--thresholds",
        metavar="T",
        help="on log α, for bayesian: a number, one for each Bayesian section as in -3,-5,auto, or "
        "auto, the default: in the gap between the two piles that a section's groups make",
    )
    group.add_argument(
        "--reduced",
        action="store_true",
        help="for bayesian: write weights in reduced precision; with --calibrate BN's statistics "
        "are measured anew behind them",
    )
    group.add_argument(
        "--plan", metavar="FILE", help="apply a saved plan in place of a strategy and an amount"
    )


def _add_ranking(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--importance",
        choices=IMPORTANCES,
        help=f"{listed(IMPORTANCES)}; default: bn, least-squares with --calibrate, sensitivity "
        "with --scan",
    )
    group.add_argument(
        "--scan",
        metavar="FILE",
        help=f"a .json file for --importance {SENSITIVITY}: the loss of cutting each family of "
        "channels alone, in mAP or top-1 with --data, else at the heads. Made where it doesn't "
        "exist, continued where it was interrupted; a picture goes beside it",
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
    group.add_argument("--seed", type=int, metavar="N", help="of --importance random; default: 0")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--keep-min", type=int, default=1, metavar="N", help="channels that every layer keeps"
    )
    group.add_argument(
        "--layer-keep",
        type=float,
        metavar="SHARE",
        help="share of its channels that every layer keeps; default: 0.01 for slim, else 0",
    )
    group.add_argument(
        "--round",
        metavar="N",
        help=f"round every count up to a multiple of N, or to a power of two: {POW2}; with "
        f"--target {AUTOMATIC} searches among the widths that suit the engine of --ms-engine, or "
        "else all engines here, and is the default; 1 for free widths",
    )
    group.add_argument("--spare", type=sections, default=(), metavar="I,J", help="don't cut these")
    group.add_argument("--only", type=sections, metavar="I,J", help="cut only these")


def inputs_of(args: argparse.Namespace) -> Inputs:
    """The files that the options name; imports torch."""
    from pruning.session import Inputs

    return Inputs(
        args.cfg,
        args.weights,
        data=args.data,
        points=args.points,
        calibrate=args.calibrate,
        calibration_images=args.calibration_images,
        latencies=getattr(args, "latencies", None),
        ms_engine=getattr(args, "ms_engine", None),
        scan=getattr(args, "scan", None),
    )


def check_images(args: argparse.Namespace) -> None:
    """Raises DarknetError for options of images that can't be meant."""
    if args.calibration_images < 1:
        raise DarknetError(f"--calibration-images {args.calibration_images}: expected at least 1")
    if args.points and not args.data:
        raise DarknetError(f"--points {args.points}: needs --data")


def spec_of(args: argparse.Namespace) -> Spec:
    """The spec of the options, or of a saved plan; raises PlanError for what doesn't fit together.

    Nothing but a plan is read for it.
    """
    if args.fold == "none":
        raise PlanError("--fold none: use --recover none")
    if args.plan:
        return _saved(args)
    strategy = STRATEGIES[args.strategy]
    if not strategy.ranks:
        _refuse(args, f"--strategy {strategy.name}", _RANKING)
    if not strategy.takes_posteriors:
        _refuse(args, f"--strategy {strategy.name}", {"thresholds": None, "reduced": False})
    used = {_OPTION.get(name, name) for name in strategy.limits}
    unused = {name: _LIMITS[name] for name in sorted(_LIMITS) if name not in used}
    _refuse(args, f"--strategy {strategy.name}", unused)
    _check_scan(args)
    amount = _amount(args)
    rounding = default_rounding(strategy, amount) if args.round is None else _rounding(args.round)
    images = bool(args.calibrate) and not strategy.takes_posteriors
    return Spec(
        strategy.name,
        amount,
        Ranking(
            args.importance, args.group, args.compare or "global", args.per_mac, args.seed or 0
        ),
        Limits(args.keep_min, args.layer_keep, rounding, args.spare, args.only),
        args.fold,
        default_recovery(args.recover, images),
    )


def _saved(args: argparse.Namespace) -> Spec:
    _refuse(args, "--plan", {**_AMOUNT, **_RANKING, **_LIMITS})
    from pruning.cut.plan import Plan  # torch is imported with it

    plan = Plan.load(args.plan)
    recover = default_recovery(args.recover, bool(args.calibrate))
    return Spec(plan.strategy, Saved(plan), fold=args.fold, recover=recover)


# options by their defaults
_AMOUNT = {"percent": None, "target": None, "blocks": None, "thresholds": None, "reduced": False}
_RANKING = dict.fromkeys(("importance", "scan", "group", "compare", "per_mac", "seed"))
_OPTION = {"round_to": "round"}  # where an option isn't named as in Limits
_LIMITS = {"keep_min": 1, "layer_keep": None, "round": None, "spare": (), "only": None}


def _refuse(args: argparse.Namespace, beside: str, defaults: Mapping[str, object]) -> None:
    """Raises PlanError where an option is given that has no effect beside another one."""
    for name, default in defaults.items():
        if getattr(args, name) != default:
            raise PlanError(f"--{name.replace('_', '-')} has no effect with {beside}: leave it out")


def _amount(args: argparse.Namespace) -> Amount:
    """How far the options say to cut; raises PlanError for more than one amount."""
    channels: Percent | Targets | None = None
    if args.percent is not None and args.target:
        raise PlanError("--percent and --target can't be combined: use one of them")
    if args.percent is not None:
        channels = Percent(args.percent)
    if args.target:
        channels = Targets.parse(",".join(args.target))
    strategy = STRATEGIES[args.strategy]
    if strategy.takes_posteriors:
        unused = dict.fromkeys(("percent", "target", "blocks"))
        _refuse(args, f"--strategy {strategy.name}", unused)
        return Thresholds.parse(args.thresholds or "auto", args.reduced)
    if args.blocks is not None:
        if strategy.takes_blocks and strategy.ranks:
            channels = channels or Percent(PERCENT)
        return Blocks(args.blocks, channels)
    return channels or Percent(PERCENT)


def _check_scan(args: argparse.Namespace) -> None:
    """Raises PlanError where there is a scan without its importance, or the other way round."""
    if args.scan and args.importance not in (None, SENSITIVITY):
        raise PlanError(
            f"--scan can't be combined with --importance {args.importance}: leave out one of them"
        )
    if args.importance == SENSITIVITY and not args.scan:
        raise PlanError(f"--importance {SENSITIVITY}: needs a scan: --scan FILE")


def _rounding(text: str) -> int:
    if text in ROUNDINGS:
        return ROUNDINGS[text]
    if not text.isdecimal() or int(text) < 1:
        raise DarknetError(f"--round {text}: expected at least 1, or {' or '.join(ROUNDINGS)}")
    return int(text)


def stem_of(args: argparse.Namespace, spec: Spec) -> str:
    """A name for the result: CFG-STRATEGY, what ranks where that is said, and how far it goes."""
    stem = Path(args.cfg or args.weights).stem
    if isinstance(spec.amount, Saved | Thresholds):
        kind = "plan" if isinstance(spec.amount, Saved) else spec.strategy
        return f"{stem.removesuffix('-bayesian')}-{kind}"
    ranking = (spec.ranking.importance, args.compare)
    amount = str(spec.amount).replace("=", "").replace(",", "-")
    return "-".join([stem, spec.strategy, *filter(None, ranking), amount])
