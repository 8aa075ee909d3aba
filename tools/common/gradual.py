"""prune.py --steps: cut and train by turns, each training a train.py of its own."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import train

from common.command import DONE, INTERRUPTED, Steps, check_outputs
from yolo.errors import DarknetError

if TYPE_CHECKING:
    from pruning.session import Job

EPOCHS = 10
# said by prune.py, or pointless for weights that are complete
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
USELESS = ("plan", "save_plan", "figures", "scan", "dry_run")


def add_step_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training between cuts")
    group.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="cut as far in N steps, and train after each; the same command goes on where it was "
        "interrupted. In OUT/STEM-steps is all that was made on the way",
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


def check_steps(args: argparse.Namespace) -> bool:
    """Whether it is to be cut in steps; raises DarknetError for what doesn't go with them."""
    if args.steps is None and args.finetune_epochs is None:
        if args.finetune is not None:
            raise DarknetError("--finetune: needs --steps or --finetune-epochs")
        return False
    for name in USELESS:
        if getattr(args, name):
            raise DarknetError(f"--{name.replace('_', '-')}: is for a single cut, without --steps")
    if args.finetune_epochs is not None and args.finetune_epochs < 1:
        raise DarknetError(f"--finetune-epochs {args.finetune_epochs}: expected at least 1")
    options, asked = _options(args), train.parser()
    if {"-h", "--help"} & {*options}:
        raise DarknetError(f"--finetune {args.finetune}: see train.py --help")
    given = asked.parse_args(options)  # says now what it doesn't know
    for name in OURS:
        if getattr(given, name) != asked.get_default(name):
            raise DarknetError(f"--finetune {args.finetune}: --{name} is not for --finetune")
    train.check(given)
    return True


def prune_in_steps(args: argparse.Namespace, job: Job, stem: str, steps: Steps) -> int:
    """Cut and train by turns, then write what comes of it."""
    from pruning.run.gradual import MODEL, Gradual
    from pruning.run.result import result_files
    from yolo.files import content_writer, write_files

    folder = Path(args.out)
    epochs, files = args.finetune_epochs or EPOCHS, result_files(folder, stem)
    extra = [Path(args.json)] if args.json else []
    check_outputs([*files.values(), *extra], [args.cfg, args.weights, args.data])

    def trained(cfg: Path, weights: Path, out: Path) -> Path:
        steps.clear()
        given = {"cfg": cfg, "weights": weights, "data": args.data, "epochs": epochs}
        given["points"] = args.points
        _train({**given, "out": out, "name": MODEL}, _options(args))
        best = out / f"{MODEL}_best.weights"
        return best if best.exists() else out / f"{MODEL}_last.weights"

    settings = {"epochs": epochs, "finetune": args.finetune or ""}
    gradual = Gradual(
        job, 1 if args.steps is None else args.steps, folder / f"{stem}-steps", trained, settings
    )
    try:
        tuned = gradual.run()
        report = content_writer(tuned.to_json(files).encode())
        write_files([*tuned.writers(folder, stem), *((path, report) for path in extra)])
    except KeyboardInterrupt:
        steps.close()
        print(f"Stopped; the same command goes on. What is done: {gradual.folder}", file=sys.stderr)
        return INTERRUPTED
    finally:
        steps.close()
    print(tuned.tables())
    print(f"Written: {folder / stem}.cfg, .weights and .json")
    return DONE


def _options(args: argparse.Namespace) -> list[str]:
    try:
        return shlex.split(args.finetune or "")
    except ValueError as error:
        raise DarknetError(f"--finetune {args.finetune}: {str(error).lower()}") from error


def _train(given: dict[str, Any], options: list[str]) -> None:
    """Train, or go on training; raises KeyboardInterrupt where that is interrupted."""
    folder = given["out"]
    if (folder / f"{given['name']}_last.weights").exists():
        return
    words = [f"--{name}={value}" for name, value in given.items()]
    if (folder / "last.pt").exists():
        words, options = ["--resume", str(folder / "last.pt")], []
    command = [sys.executable, str(Path(__file__).parents[1] / "train.py"), *words, *options]
    terminated = signal.signal(signal.SIGTERM, _interrupt)
    with subprocess.Popen(command) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt as interrupt:
            # Ctrl-C has reached it, too: it saves what it has
            if interrupt.args:
                process.terminate()
            process.wait()
            raise
        finally:
            signal.signal(signal.SIGTERM, terminated)
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        raise KeyboardInterrupt
    if code < 0:
        name = signal.Signals(-code).name
        raise DarknetError(f"the training was ended by {name}; the same command goes on")
    if code:
        sys.exit(code)  # it has said why


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt(number)
