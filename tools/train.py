"""Train, sparsify or fine-tune a Darknet model: cfg and data in, cfg and weights out."""

from __future__ import annotations

import argparse
import math
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.command import Help, Parser, check_outputs, listed, run, size

from pruning.options import SCHEDULES, STRATEGIES
from yolo.errors import DarknetError, TrainingError
from yolo.evaluation.results import POINTS

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

# flags that take the place of a key of [net]
NET_KEYS = ("batch", "subdivisions", "learning_rate", "burn_in", "policy", "momentum", "decay")
# what may be another when a training goes on; the rest comes from the checkpoint
FREE = ("resume", "out", "workers", "cache", "device", "threads", "tensorboard")
EMA = 0.999
WRONG = {
    "clipped": "boxes that overshot their image:",
    "dropped": "boxes without area:",
    "missing": "images without a label file:",
}
PROBED = 8  # images that tell what a cut would change


def parser() -> Parser:
    parser = Parser(
        description=__doc__,
        formatter_class=Help,
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
        "--strategy", choices=STRATEGIES, default="normal", help="whose channels: see prune.py"
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
    model.add_argument("--cutoff", type=int, metavar="N", help="they hold the first N sections")
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


def main() -> int:
    asked = parser()
    args = asked.parse_args()
    from yolo.models.checkpoint import is_checkpoint, load_checkpoint

    brings_cfg = args.weights is not None and is_checkpoint(args.weights)
    if not args.resume and not (args.data and (args.cfg or brings_cfg)):
        raise DarknetError("--cfg and --data are needed (or --resume); see --help")
    checkpoint = None
    if args.resume:
        checkpoint = load_checkpoint(args.resume)
        args = _resumed(asked, args, checkpoint)
    check(args)
    from yolo.device import choose_device
    from yolo.training.ranks import Ranks

    ranks = Ranks.of_environment()
    device = choose_device(args.device, ranks.local)
    with ranks.joined(device):
        return _train(_prepare(args, checkpoint, ranks, device), args)


def _prepare(
    args: argparse.Namespace, checkpoint: Checkpoint | None, ranks: Ranks, device: torch.device
) -> Run:
    import torch

    from yolo.datasets import sources
    from yolo.training.optimizer import freeze
    from yolo.training.run import Run
    from yolo.training.start import judge_of, settings_of
    from yolo.training.trainer import Options, Trainer
    from yolo.training.variational import Bound

    if args.threads:
        torch.set_num_threads(args.threads)
    data = sources.load(args.data)
    network, header = _network(args, checkpoint, ranks)
    # a .pt file named best or last tells nothing; the cfg that it carries does
    name = args.name or Path(network.cfg.path).stem
    folder = Path(args.out or f"runs/{name}")
    _check_folder(args, folder, name)
    freeze(network)
    keys = {key: getattr(args, key) for key in NET_KEYS if getattr(args, key) is not None}
    if args.optimizer:
        keys["adam"] = int(args.optimizer == "adam")
    settings, epochs = settings_of(network.cfg, data, keys, args.epochs)
    judge = judge_of(network, data, args.workers, points=args.points)
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
    run_ = Run(trainer, folder, name, judge, args.eval_every, observer, vars(args))
    if checkpoint:
        run_.resume(checkpoint)
        # killed before it had written its models, it still can
        if trainer.done == trainer.total and (folder / f"{name}.cfg").exists():
            done = f"all {epochs} epochs are done: start another training with --weights"
            raise TrainingError(f"{args.resume}: {done}")
    return run_


def _train(run_: Run, args: argparse.Namespace) -> int:
    trainer = run_.trainer
    caught = _stop_on_signals(trainer)
    board = _board(args.tensorboard) if trainer.ranks.first else None
    bar = _Bar(trainer)
    for row in run_.epochs(bar.step):
        if not trainer.ranks.first:
            continue
        bar.epoch(row, run_)
        if row["epoch"] == 1:
            _tell_problems(trainer)
        if board:
            for name, value in row.items():
                board.add_scalar(name, value, int(row["epoch"]))
    bar.close()
    if trainer.done < trainer.total:  # the signal may have reached another process only
        if trainer.ranks.first:
            print(f"Stopped. Go on with: python {sys.argv[0]} --resume {run_.last_path}")
        return 128 + (caught or [signal.SIGINT])[0]
    if not trainer.ranks.first:
        return 0
    written = run_.write_model()
    print(f"Written: {', '.join(map(str, written))}, and checkpoints, history and curves there")
    return 0


def _tell_problems(trainer: Trainer) -> None:
    """What is wrong with the data, once all of it has been read."""
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
    return SparseTraining(network, args.strategy, args.s, args.sparsity_schedule, images)


def _bayesian_training(args: argparse.Namespace, network: Network) -> BayesianTraining | None:
    """What looks at a Bayesian network; None for a plain one."""
    from yolo.layers.bayesian import bayesian_layers

    if not bayesian_layers(network.layers):
        return None
    if args.sparsity:
        raise TrainingError(
            f"{network.cfg.path}: -sr is for plain models; its priors make it sparse"
        )
    from pruning.bayesian.training import BayesianTraining

    return BayesianTraining(network, args.thresholds)


def _teacher(args: argparse.Namespace, network: Network, device: torch.device) -> Any:
    if not args.teacher:
        return None
    from yolo.models.load import load_model
    from yolo.training.distill import Distillation

    teacher, _ = load_model(*args.teacher)
    return Distillation(teacher.to(device), network, args.distill, args.distill_weight)


def _stop_on_signals(trainer: Trainer) -> list[int]:
    """The first Ctrl-C or SIGTERM ends the training after its step, the second one at once."""
    caught: list[int] = []

    def stop(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)
        trainer.stop = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return caught


def _board(folder: str | None) -> Any:
    if not folder:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DarknetError("--tensorboard needs its package: pip install tensorboard") from error
    return SummaryWriter(folder)


def _resumed(asked: Parser, args: argparse.Namespace, checkpoint: Checkpoint) -> argparse.Namespace:
    """The options of the interrupted training; those given now must be free to change."""
    stored = checkpoint.training.get("arguments")
    if not stored:
        raise TrainingError(f"{args.resume}: holds no training to go on with; use --weights")
    given = {k: v for k, v in vars(args).items() if v != asked.get_default(k)}
    for name in given:
        if name not in FREE:
            flag = name.replace("_", "-")
            raise TrainingError(f"--{flag} can't be changed when a training goes on")
    found = argparse.Namespace(**{**vars(args), **stored, **given})
    found.out = found.out or str(Path(args.resume).parent)
    return found


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


def _check_folder(args: argparse.Namespace, folder: Path, name: str) -> None:
    """A training never writes over another one, nor over what it reads."""
    last = folder / "last.pt"
    if last.exists() and not args.resume:
        raise DarknetError(f"{last}: there is a training already: --resume it, or another --out")
    outputs = [folder / f"{name}.cfg", folder / f"{name}_last.weights"]
    check_outputs(
        outputs, [args.cfg, args.weights, *(args.pretrained or ()), *(args.teacher or ())]
    )


if __name__ == "__main__":
    run(main)
