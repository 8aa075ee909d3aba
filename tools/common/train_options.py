"""The options of a training, and the checks that need no file."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import Parser, check_outputs, listed, size
from pruning.registry import SCHEDULES, STRATEGIES
from yolo.errors import DarknetError, TrainingError
from yolo.evaluation.results import POINTS

if TYPE_CHECKING:
    from yolo.models.checkpoint import Checkpoint

# flags that take the place of a key of [net]
NET_KEYS = ("batch", "subdivisions", "learning_rate", "burn_in", "policy", "momentum", "decay")
# what may be another when a training goes on; the rest comes from the checkpoint
FREE = ("resume", "out", "workers", "cache", "device", "threads", "tensorboard")
EVERYDAY = {
    "cfg": "the network",
    "data": "the images: a .data or .yaml file",
    "weights": "to start from: .weights, or a .pt with its cfg",
    "pretrained": "CFG WEIGHTS of a model with other classes: take what fits",
    "epochs": "over the data; default: as many as max_batches= of [net]",
    "batch": "images a step; default: batch= of [net]",
    "learning_rate": "default: learning_rate= of [net]",
    "sparsity": "sparse training: pull the scales of channels towards 0, to prune them afterwards",
    "s": "how strongly; default: 0.001",
    "strategy": "whose channels: that of prune.py afterwards; default: normal",
    "teacher": "CFG WEIGHTS of a network to learn from, too",
    "resume": "go on from a last.pt",
    "out": "folder of all files; default: runs/CFG",
    "device": "cpu, cuda, cuda:1 …; default: a GPU if there is one",
    "workers": "processes that read images; default: 2",
}


def parser() -> Parser:
    parser = Parser(
        description="Train, sparsify or fine-tune a Darknet model: cfg and data in, cfg and "
        "weights out.",
        everyday=EVERYDAY,
        example="python tools/train.py --cfg my.cfg --data my.data --epochs 50",
        epilog="Several processes: torchrun --nproc-per-node N tools/train.py … Ctrl-C saves, "
        "--resume goes on. Exit codes: 0 done, 2 wrong input, 130 interrupted.",
    )
    _model(parser.add_argument_group("model"))
    _training(parser.add_argument_group("training; the defaults are those of [net]"))
    sparse = parser.add_argument_group("sparse training")
    sparse.add_argument("-sr", "--sparsity", action="store_true", help="pull γ towards 0")
    sparse.add_argument(
        "--s",
        "--strength",
        type=float,
        default=0.001,
        help="how strongly; for torchrun, which takes --s for its own, the long name",
    )
    sparse.add_argument(
        "--sparsity-schedule", choices=SCHEDULES, default="constant", help=listed(SCHEDULES)
    )
    sparse.add_argument(
        "--strategy",
        choices=[
            name for name, entry in STRATEGIES.items() if entry.ranks and not entry.takes_blocks
        ],
        default="normal",
        help="whose channels: see prune.py",
    )
    _bayesian(parser.add_argument_group("Bayesian sections"))
    out = parser.add_argument_group("output")
    out.add_argument("--out", metavar="DIR", help="for all files; default: runs/CFG")
    out.add_argument("--name", metavar="STEM", help="of the model's files; default: CFG")
    out.add_argument("--eval-every", type=int, default=1, metavar="N", help="epochs; 0: never")
    out.add_argument(
        "--points",
        type=int,
        choices=POINTS,
        default=0,
        help="rule for mAP: see test.py; default: 0",
    )
    out.add_argument("--tensorboard", metavar="DIR", help="log there, too")
    return parser


def _model(model: argparse._ArgumentGroup) -> None:
    model.add_argument("--cfg", help="the network")
    model.add_argument("--data", help="the images: a .data or .yaml file")
    model.add_argument("--weights", help="to start from: .weights, or a .pt with its cfg")
    model.add_argument(
        "--cutoff", type=int, metavar="N", help="the weights file holds only the first N sections"
    )
    model.add_argument(
        "--pretrained",
        nargs=2,
        metavar=("CFG", "WEIGHTS"),
        help="take what fits from another model, one with other classes say",
    )
    model.add_argument(
        "--resume",
        metavar="FILE",
        help="go on from a last.pt; it knows all options but "
        "--out, --workers, --cache, --device, --threads and --tensorboard",
    )
    model.add_argument("--teacher", nargs=2, metavar=("CFG", "WEIGHTS"), help="learn from it, too")
    model.add_argument(
        "--distill",
        choices=("output", "bounded", "both"),
        default="output",
        help="what of the teacher: its output, or boxes only where it knows better, or both",
    )
    model.add_argument("--distill-weight", type=float, default=1.0, help="of the teacher's loss")


def _bayesian(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--kl-weight", type=float, help="of the divergence from the priors; default: 1 / images"
    )
    group.add_argument("--data-weight", type=float, default=1.0, help="of the data's loss")
    group.add_argument(
        "--kl-warmup",
        type=float,
        default=0.0,
        metavar="EPOCHS",
        help="in which the divergence comes in, from 0 on",
    )
    group.add_argument(
        "--thresholds", default="auto", help="that the rates on display are for: see prune.py"
    )


def _training(training: argparse._ArgumentGroup) -> None:
    training.add_argument(
        "--epochs",
        type=int,
        help="over the data; the schedule is scaled to them. Default: max_batches= steps",
    )
    training.add_argument("--batch", type=int, help="images a step")
    training.add_argument("--subdivisions", type=int, help="mini-batches a step")
    training.add_argument("--learning-rate", "--lr", type=float)
    training.add_argument("--burn-in", type=int, metavar="STEPS")
    training.add_argument(
        "--policy", help="constant, steps, step, exp, poly, sig, random or sgdr (a cosine)"
    )
    training.add_argument("--optimizer", choices=("sgd", "adam"))
    training.add_argument("--momentum", type=float)
    training.add_argument("--decay", type=float, help="of the weights")
    training.add_argument(
        "--ema", type=float, help="decay of the averaged model; default: ema_alpha=, or 0.999"
    )
    training.add_argument("--size", type=size, metavar="WxH", help="takes the place of [net]'s")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--workers", type=int, default=2, help="processes that read images")
    training.add_argument("--cache", type=int, default=0, metavar="MIB", help="of decoded images")
    training.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU if there is one")
    training.add_argument("--threads", type=int, metavar="N", help="of torch on the CPU")
    training.add_argument("--amp", action="store_true", help="mixed precision")
    training.add_argument(
        "--channels-last",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="memory format of images and weights; mostly the faster one",
    )


def resumed(
    train_parser: Parser, args: argparse.Namespace, checkpoint: Checkpoint
) -> argparse.Namespace:
    """The options of the interrupted training; those given now must be free to change."""
    stored = checkpoint.training.get("arguments")
    if not stored:
        raise TrainingError(f"{args.resume}: holds no training to go on with; use --weights")
    changed = {k: v for k, v in vars(args).items() if v != train_parser.get_default(k)}
    for name in changed:
        if name not in FREE:
            flag = name.replace("_", "-")
            raise TrainingError(f"--{flag} can't be changed when a training goes on")
    options = argparse.Namespace(**{**vars(args), **stored, **changed})
    options.out = options.out or str(Path(args.resume).parent)
    return options


def check(args: argparse.Namespace) -> None:
    """Raises DarknetError for numbers that make no sense."""
    least = {"epochs": 1, "batch": 1, "subdivisions": 1, "threads": 1, "workers": 0, "cache": 0}
    weights = ("s", "distill_weight", "kl_weight", "data_weight", "kl_warmup", "ema")
    for name, minimum in (least | dict.fromkeys(("eval_every", "seed", *weights), 0)).items():
        value = getattr(args, name)
        if value is not None and not minimum <= value < math.inf:
            raise DarknetError(f"--{name.replace('_', '-')} {value}: expected at least {minimum}")
    if args.ema is not None and args.ema >= 1:
        raise DarknetError(f"--ema {args.ema}: expected less than 1")
    if "/" in (args.name or ""):
        raise DarknetError(f"--name {args.name}: expected a name without folders: see --out")


def check_folder(args: argparse.Namespace, folder: Path, name: str) -> None:
    """A training never writes over another one, nor over what it reads."""
    last = folder / "last.pt"
    if last.exists() and not args.resume:
        raise DarknetError(f"{last}: there is a training already: --resume it, or another --out")
    outputs = [folder / f"{name}.cfg", folder / f"{name}_last.weights"]
    check_outputs(
        outputs, [args.cfg, args.weights, *(args.pretrained or ()), *(args.teacher or ())]
    )
