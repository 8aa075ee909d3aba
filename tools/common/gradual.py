"""prune.py --steps: cut and train in turns."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import DONE, INTERRUPTED, Steps, check_outputs
from common.spec import inputs_of
from common.train_options import check, parser, resumed
from yolo.errors import DarknetError

if TYPE_CHECKING:
    from pruning.proof.verify import Proofs
    from pruning.spec import Spec

EPOCHS = 10
# options of train.py that prune.py sets, or that are pointless for complete weights
OURS = (
    "cfg",
    "weights",
    "data",
    "epochs",
    "out",
    "name",
    "resume",
    "points",
    "cutoff",
    "pretrained",
)
USELESS = ("plan", "save_plan", "figures", "report", "scan", "dry_run")


@dataclass(frozen=True)
class Finetuning:
    """Steps, and how to train after each: the options of train.py, parsed."""

    steps: int
    epochs: int
    options: argparse.Namespace
    text: str


def add_step_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training between cuts")
    group.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="cut as far in N steps, and train after each; the same command goes on where it was "
        "interrupted. All models and trainings on the way stay in OUT/STEM-steps",
    )
    group.add_argument(
        "--finetune-epochs",
        type=int,
        metavar="E",
        help=f"of training after each; default: {EPOCHS}. Alone it means a single step",
    )
    group.add_argument(
        "--finetune",
        metavar="OPTIONS",
        help='of train.py, as in "--lr 0.0005 --optimizer adam"; its defaults are those of [net]',
    )


def finetuning_of(args: argparse.Namespace) -> Finetuning | None:
    """The steps that are asked for, if any; raises DarknetError for what can't be combined."""
    if args.steps is None and args.finetune_epochs is None:
        if args.finetune is not None:
            raise DarknetError("--finetune: needs --steps or --finetune-epochs")
        return None
    for name in USELESS:
        if getattr(args, name):
            option = name.replace("_", "-")
            raise DarknetError(f"--{option} can't be combined with --steps: it is for a single cut")
    if args.finetune_epochs is not None and args.finetune_epochs < 1:
        raise DarknetError(f"--finetune-epochs {args.finetune_epochs}: expected at least 1")
    text = args.finetune or ""
    steps = 1 if args.steps is None else args.steps
    return Finetuning(steps, args.finetune_epochs or EPOCHS, _options(text), text)


def _options(text: str) -> argparse.Namespace:
    """The options of train.py; what it doesn't know is reported now."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise DarknetError(f"--finetune {text}: {str(error).lower()}") from error
    if {"-h", "--help", "--help-all"} & {*words}:
        raise DarknetError(f"--finetune {text}: see train.py --help")
    train_parser = parser()
    options = train_parser.parse_args(words)
    for name in OURS:
        if getattr(options, name) != train_parser.get_default(name):
            raise DarknetError(f"--finetune {text}: prune.py sets --{name} itself; leave it out")
    check(options)
    return options


def prune_in_steps(
    args: argparse.Namespace,
    spec: Spec,
    proofs: Proofs,
    finetuning: Finetuning,
    stem: str,
    steps: Steps,
) -> int:
    """Cut and train in turns, then write the result."""
    from pruning.run.gradual import Gradual
    from pruning.run.prune import result_files
    from yolo.files import content_writer, write_files

    folder = Path(args.out)
    files = result_files(folder, stem)
    extra = [Path(args.json)] if args.json else []
    check_outputs([*files.values(), *extra], [args.cfg, args.weights, args.data])

    def trained(cfg: Path, weights: Path, out: Path) -> Path:
        steps.clear()
        return _trained(args, finetuning, cfg, weights, out)

    gradual = Gradual(
        inputs_of(args),
        spec,
        proofs,
        args.runs,
        finetuning.steps,
        folder / f"{stem}-steps",
        trained,
        {"epochs": finetuning.epochs, "finetune": finetuning.text},
        steps,
    )
    terminated = signal.signal(signal.SIGTERM, _interrupt)
    try:
        tuned = gradual.run()
        report = content_writer(tuned.to_json(files).encode())
        write_files([*tuned.writers(folder, stem), *((path, report) for path in extra)])
    except KeyboardInterrupt:
        steps.close()
        print(f"Stopped; the same command goes on. What is done: {gradual.folder}", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, terminated)
        steps.close()
    print(tuned.tables())
    print(f"Written: {folder / stem}.cfg, .weights and .json")
    return DONE


def _trained(
    args: argparse.Namespace, finetuning: Finetuning, cfg: Path, weights: Path, out: Path
) -> Path:
    """Train, or go on training: the best weights. Raises KeyboardInterrupt where it is stopped."""
    import torch

    from common.training import prepare, train
    from pruning.run.gradual import MODEL
    from yolo.models.checkpoint import load_checkpoint
    from yolo.models.device import choose_device
    from yolo.training.ranks import Ranks

    best, last = (out / f"{MODEL}_{kind}.weights" for kind in ("best", "last"))
    if not last.exists():
        overrides = {"cfg": str(cfg), "weights": str(weights), "data": args.data, "out": str(out)}
        overrides |= {"epochs": finetuning.epochs, "name": MODEL, "points": args.points}
        options = argparse.Namespace(**{**vars(finetuning.options), **overrides})
        checkpoint = None
        if (out / "last.pt").exists():
            train_parser = parser()
            resume = train_parser.parse_args(["--resume", str(out / "last.pt")])
            checkpoint = load_checkpoint(resume.resume)
            options = resumed(train_parser, resume, checkpoint)
        threads = torch.get_num_threads()
        try:
            device = choose_device(options.device, 0)
            code = train(prepare(options, checkpoint, Ranks(), device), options)
        finally:
            torch.set_num_threads(threads)
        if code:
            raise KeyboardInterrupt
    return best if best.exists() else last


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
