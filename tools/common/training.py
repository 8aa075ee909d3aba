"""A training from its options: what is prepared, the loop with its progress, how it is stopped."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.command import program
from common.train_options import NET_KEYS, check_folder
from pruning.registry import SCHEDULES
from pruning.spec import Thresholds
from yolo.errors import DarknetError, TrainingError

if TYPE_CHECKING:
    import torch

    from pruning.bayesian.training import BayesianTraining
    from pruning.sparse.training import SparseTraining
    from yolo.datasets.data import Data, Split
    from yolo.models.checkpoint import Checkpoint
    from yolo.models.weights import Header
    from yolo.network import Network
    from yolo.training.ranks import Ranks
    from yolo.training.run import Run
    from yolo.training.trainer import Trainer

EMA = 0.999
WRONG = {
    "clipped": "boxes that overshot their image:",
    "dropped": "boxes without area:",
    "missing": "images without a label file:",
}
PROBED = 8  # images that show what a cut would change


def prepare(
    args: argparse.Namespace, checkpoint: Checkpoint | None, ranks: Ranks, device: torch.device
) -> Run:
    import torch

    from yolo.datasets import sources
    from yolo.training.optimizer import freeze
    from yolo.training.run import Run
    from yolo.training.start import metric_of, settings_of
    from yolo.training.trainer import Options, Trainer
    from yolo.training.variational import Bound

    if args.threads:
        torch.set_num_threads(args.threads)
    data = sources.load(args.data)
    network, header = _network(args, checkpoint, ranks)
    # a .pt file named best or last says nothing; the cfg that it carries does
    name = args.name or Path(network.cfg.path).stem
    folder = Path(args.out or f"runs/{name}")
    check_folder(args, folder, name)
    freeze(network)
    keys = {key: getattr(args, key) for key in NET_KEYS if getattr(args, key) is not None}
    if args.optimizer:
        keys["adam"] = int(args.optimizer == "adam")
    settings, epochs = settings_of(network.cfg, data, keys, args.epochs)
    metric = metric_of(network, data, args.workers, points=args.points)
    sparse = _sparse(args, data, network) if args.sparsity else None
    observer = _bayesian_training(args, network) or sparse
    trainer = Trainer(
        network,
        data,
        settings,
        Options(
            epochs,
            seed=args.seed,
            workers=args.workers,
            cache=args.cache,
            ema=(settings.ema_alpha or EMA) if args.ema is None else args.ema,
            amp=args.amp,
            channels_last=args.channels_last,
            bound=Bound(args.data_weight, args.kl_weight, args.kl_warmup),
        ),
        header=header,
        ranks=ranks,
        device=device,
        sparsity=sparse,
        teacher=_teacher(args, network, device),
    )
    run_ = Run(trainer, folder, name, metric, args.eval_every, observer, vars(args))
    if checkpoint:
        run_.resume(checkpoint)
        # killed before it had written its models, it still can
        if trainer.done == trainer.total and (folder / f"{name}.cfg").exists():
            done = f"all {epochs} epochs are done: start another training with --weights"
            raise TrainingError(f"{args.resume}: {done}")
    return run_


def train(run_: Run, args: argparse.Namespace) -> int:
    """Train to the end, or until a signal: the exit code."""
    trainer = run_.trainer
    with _stopped_by_signals(trainer) as caught:
        _epochs(run_, args)
    if trainer.done < trainer.total:  # the signal may have reached another process only
        if trainer.ranks.first:
            print(f"Stopped. Go on with: {program('train')} --resume {run_.last_path}")
        return 128 + (caught or [signal.SIGINT])[0]
    if not trainer.ranks.first:
        return 0
    written = run_.write_model()
    print(f"Written: {', '.join(map(str, written))}, and checkpoints, history and curves there")
    return 0


def _epochs(run_: Run, args: argparse.Namespace) -> None:
    trainer = run_.trainer
    board = _board(args.tensorboard) if trainer.ranks.first else None
    bar = _Bar(trainer)
    for row in run_.epochs(bar.step):
        if not trainer.ranks.first:
            continue
        bar.epoch(row, run_)
        if row["epoch"] == 1:
            _print_problems(trainer)
        if board:
            for name, value in row.items():
                board.add_scalar(name, value, int(row["epoch"]))
    bar.close()


def _print_problems(trainer: Trainer) -> None:
    """Images left out and labels corrected, once all data has been read."""
    for reason in list(trainer.skipped.values())[:10]:
        print(f"  left out: {reason}")
    counts = asdict(trainer.problems)
    if any(counts.values()):
        print("  labels: " + ", ".join(f"{WRONG[name]} {n}" for name, n in counts.items() if n))


class _Bar:
    """Progress on stderr while an epoch runs, a line on stdout when it is over."""

    def __init__(self, trainer: Trainer) -> None:
        from tqdm import tqdm

        hidden = not trainer.ranks.first or not sys.stderr.isatty()
        self.trainer = trainer
        self.bar = tqdm(total=trainer.steps_per_epoch, leave=False, disable=hidden, unit="step")

    def step(self, step: Any) -> None:
        if self.bar.n > step.number:
            self.bar.reset()
        self.bar.set_description(f"epoch {step.epoch + 1}/{self.trainer.options.epochs}", False)
        self.bar.set_postfix_str(_figures(step.means), False)
        self.bar.update(step.number + 1 - self.bar.n)

    def epoch(self, row: dict[str, float], run_: Run) -> None:
        self.bar.clear()
        epochs = self.trainer.options.epochs
        print(f"epoch {int(row['epoch'])}/{epochs}  {_figures(row)}", flush=True)
        if run_.observer:
            print(f"  {run_.observer.line()}", flush=True)
        if run_.unsaved:
            print(f"  not saved, will be tried again: {run_.unsaved}", file=sys.stderr)

    def close(self) -> None:
        self.bar.close()


# figures of an epoch that a line has room for, and how they are written
SHOWN = {
    "loss": ("loss", "{:.3g}"),
    "box": ("box", "{:.3g}"),
    "objectness": ("obj", "{:.3g}"),
    "class": ("class", "{:.3g}"),
    "teacher": ("teacher", "{:.3g}"),
    "kl": ("KL", "{:.4g}"),
    "iou": ("IoU", "{:.2f}"),
    "map": ("mAP", "{:.4f}"),
    "f1": ("F1", "{:.3f}"),
    "top1": ("top-1", "{:.4f}"),
    "topk": ("top-k", "{:.4f}"),
    "images_per_second": ("images/s", "{:.0f}"),
}


def _figures(row: Any) -> str:
    return "  ".join(
        f"{title} {form.format(row[name])}" for name, (title, form) in SHOWN.items() if name in row
    )


def _network(
    args: argparse.Namespace, checkpoint: Checkpoint | None, ranks: Ranks
) -> tuple[Network, Header]:
    """The network to train: a checkpoint's, or what the options say."""
    from yolo.training.start import Start

    if checkpoint:
        return checkpoint.network(), checkpoint.header
    start = Start(args.cfg, args.weights, args.cutoff, args.pretrained, args.size, args.seed)
    network, header, missing = start.network()
    if args.pretrained and ranks.first:
        fresh = ", ".join(f"section {index}" for index in missing) or "nothing"
        print(f"Taken from {args.pretrained[1]}; fresh: {fresh}")
    return network, header


def _sparse(args: argparse.Namespace, data: Data, network: Network) -> SparseTraining:
    from pruning.sparse.training import SparseTraining
    from yolo.evaluation.loader import evaluation_loader

    split: Split = "valid" if "valid" in data.sources else "train"
    loader = evaluation_loader(data, network.cfg, split, batch=PROBED, workers=0)
    images = next(iter(loader)).images
    return SparseTraining(network, args.strategy, args.s, SCHEDULES[args.sparsity_schedule], images)


def _bayesian_training(args: argparse.Namespace, network: Network) -> BayesianTraining | None:
    """The observer of a Bayesian network; None for a plain one."""
    from yolo.layers.bayesian import bayesian_layers

    if not bayesian_layers(network.layers):
        return None
    if args.sparsity:
        raise TrainingError(
            f"{network.cfg.path}: -sr is for plain models; its priors make it sparse"
        )
    from pruning.bayesian.training import BayesianTraining

    return BayesianTraining(network, Thresholds.parse(args.thresholds))


def _teacher(args: argparse.Namespace, network: Network, device: torch.device) -> Any:
    if not args.teacher:
        return None
    from yolo.models.load import load_model
    from yolo.training.distill import Distillation

    teacher, _ = load_model(*args.teacher)
    return Distillation(teacher.to(device), network, args.distill, args.distill_weight)


@contextmanager
def _stopped_by_signals(trainer: Trainer) -> Iterator[list[int]]:
    """The first Ctrl-C or SIGTERM ends the training after its step, the second one at once."""
    caught: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        trainer.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _board(folder: str | None) -> Any:
    if not folder:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DarknetError("--tensorboard needs its package: pip install tensorboard") from error
    return SummaryWriter(folder)
