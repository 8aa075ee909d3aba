"""The training loop: steps, epochs, and the state to resume from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor

from yolo.datasets import sources
from yolo.datasets.batch import Batch
from yolo.datasets.data import Data
from yolo.datasets.labels import Problems
from yolo.datasets.training import TrainingLoader
from yolo.errors import TrainingError
from yolo.heads.common.loss import GroundTruth
from yolo.heads.trained import learns_from, trained_heads
from yolo.layers.bayesian import bayesian_layers
from yolo.models.checkpoint import Checkpoint
from yolo.models.weights import Header
from yolo.network import Network
from yolo.training.ema import Ema
from yolo.training.loader import training_loader
from yolo.training.optimizer import make_optimizer, train_mode, update
from yolo.training.ranks import Ranks
from yolo.training.records import Row, Sums, Update
from yolo.training.settings import Settings
from yolo.training.variational import Bound, Variational, measure_statistics

NAMED = 8  # images of a batch that an error names
STATISTICS = 16  # mini-batches for the BN statistics of a Bayesian network's means


class Sparsity(Protocol):
    """A penalty that pushes scales towards zero while a network trains."""

    def shrink(self, network: Network, size: float, progress: float) -> None:
        """A proximal step of this size; `progress` in [0, 1) is the share of the training done."""

    def value(self, network: Network) -> float:
        """The value of the penalty."""


class Teacher(Protocol):
    """An additional loss against another network."""

    def loss(self, images: Tensor, inputs: Mapping[int, Tensor], targets: GroundTruth) -> Tensor:
        """A scalar, summed over the images."""


@dataclass(frozen=True)
class Options:
    """Options of training that aren't in [net].

    `workers` are loader processes, `cache` MiB of decoded images, `ema` the decay of the average;
    `bound` is for Bayesian sections.
    """

    epochs: int
    seed: int = 0
    workers: int = 2
    cache: int = 0
    ema: float = 0.999
    amp: bool = False
    channels_last: bool = False
    bound: Bound = field(default_factory=Bound)


class Trainer:
    """Trains a network in place; `ema.network` holds the averaged tensors that are kept.

    `settings` are those of the whole training (Settings.over). Setting `stop` ends `run` after the
    step; a run resumed with `state` and `restore` has the same losses as one without a break.
    `skipped` names images that could not be read, `problems` counts labels that had to be
    corrected. Raises CfgError where no head can be trained, TrainingError where the loss isn't
    finite.
    """

    def __init__(
        self,
        network: Network,
        data: Data,
        settings: Settings,
        options: Options,
        *,
        header: Header | None = None,
        ranks: Ranks | None = None,
        device: torch.device | None = None,
        sparsity: Sparsity | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.network, self.data, self.options = network, data, options
        self.header, self.ranks = header or Header(), ranks or Ranks()
        self.device = device or torch.device("cpu")
        self.sparsity, self.teacher = sparsity, teacher
        network.to(self.device)
        if options.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.heads = trained_heads(network.layers)
        inputs = [learns_from(network.layers[index]) for index in self.heads]
        self.collected = sorted({*inputs, *network.head_inputs})
        self.steps_per_epoch = steps_per_epoch(data, settings)
        self.settings = settings
        self.optimizer = make_optimizer(network, settings)
        self.ema = Ema(network, options.ema)
        self.variational = None
        if bayesian_layers(network.layers):
            self.variational = Variational(
                network, options.bound, len(sources.images(data, "train"))
            )
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=options.amp and self.device.type == "cuda"
        )
        self.model = self.ranks.wrap(network, self.device)
        self.epoch, self.step, self.sums = 0, 0, Sums()
        self.stop = False
        self.skipped: dict[str, str] = {}
        self.problems = Problems()

    @property
    def done(self) -> int:
        """Updates of the parameters so far."""
        return self.epoch * self.steps_per_epoch + self.step

    @property
    def total(self) -> int:
        """Updates of the whole training."""
        return self.options.epochs * self.steps_per_epoch

    def run(self, watch: Callable[[Update], None] = lambda step: None) -> Iterator[Row]:
        """Train; yields a row after every epoch, when `state` can be saved."""
        while self.epoch < self.options.epochs:
            if not self._epoch(watch):
                return
            self.epoch, self.step = self.epoch + 1, 0
            row = {"epoch": float(self.epoch), "rate": self._rate(self.done - 1)}
            row |= self._shared().means(self.ranks.world)
            if self.sparsity:
                row["penalty"] = self.sparsity.value(self.network)
            self.sums = Sums()
            if self.variational and self.variational.is_normalized:
                self._measure_statistics()
            self._check_finite()
            yield row

    def checkpoint(self, training: Mapping[str, Any] | None = None) -> Checkpoint:
        """A checkpoint of the averaged network, with the state `training` beside it."""
        header = replace(self.header, seen=self._seen())
        return Checkpoint(self.network.cfg, self.ema.network.state(), header, training or {})

    def state(self) -> dict[str, Any]:
        """State for `restore`, beside the averaged network."""
        return {
            "tensors": self.network.state(),
            "ema_steps": self.ema.steps,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "steps_per_epoch": self.steps_per_epoch,
            "sums": asdict(self.sums),
            "seen": self.header.seen,
        }

    def restore(self, checkpoint: Checkpoint, state: Mapping[str, Any]) -> None:
        """Resume where `state` was taken; raises TrainingError where the data isn't the same."""
        if state["steps_per_epoch"] != self.steps_per_epoch:
            raise TrainingError(
                f"can't resume: an epoch had {state['steps_per_epoch']} steps and has "
                f"{self.steps_per_epoch} now: use the same training images and batch size"
            )
        # the average first: the network may still lie in the checkpoint's own tensors
        self.ema.network.copy_(checkpoint.state)
        self.network.copy_(state["tensors"])
        self.ema.steps = state["ema_steps"]
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["epoch"], state["step"]
        total = Sums(**state["sums"])
        self.sums = total if self.ranks.first else total.emptied()
        self.header = replace(self.header, seen=state["seen"])

    def _epoch(self, watch: Callable[[Update], None]) -> bool:
        """Do the remaining steps of an epoch; False where it was stopped before its end."""
        train_mode(self.network)
        loader = self._loader(self.epoch, self.step)
        batches = iter(loader)
        each = len(loader) // (self.steps_per_epoch - self.step)
        while self.step < self.steps_per_epoch:
            if self.ranks.any(self.stop, self.device):
                total = self._shared()
                self.sums = total if self.ranks.first else total.emptied()
                return False
            start = time.perf_counter()
            rate = self._rate(self.done)
            self._update([next(batches) for _ in range(each)], rate)
            self.sums.seconds += time.perf_counter() - start
            self.step += 1
            watch(Update(self.epoch, self.step - 1, rate, self.sums.means()))
        self.skipped |= dict(loader.skipped)
        self.problems = loader.problems
        return True

    def _update(self, batches: list[Batch], rate: float) -> None:
        """One step: the gradient of all its mini-batches, the optimiser, sparsity, the average."""
        # dropout depends on the step alone, so a resumed run draws the same
        torch.manual_seed(hash((self.options.seed, self.done, self.ranks.rank)))
        for number, batch in enumerate(batches, 1):
            # processes exchange gradients once a step
            with nullcontext() if number == len(batches) else self.ranks.alone(self.model):
                self._accumulate(batch)
        if self.variational:
            epoch = self.done / self.steps_per_epoch
            # counted for each image, like the losses
            kl = self.variational.pull(epoch, self.scaler.get_scale())
            self.sums.parts["kl"] = self.sums.parts.get("kl", 0.0) + kl * sum(map(len, batches))
        update(self.optimizer, self.scaler, rate, self.done)
        if self.variational:
            self.variational.clip()
        if self.sparsity:
            # momentum multiplies a constant gradient by 1 / (1 - momentum) in the long run
            momentum = 0.0 if self.settings.adam else self.settings.momentum
            self.sparsity.shrink(self.network, rate / (1 - momentum), self.done / self.total)
        self.ema.update(self.network)

    def _accumulate(self, batch: Batch) -> None:
        loss = self._loss(batch)
        if not loss.isfinite():
            raise TrainingError(
                f"the loss is not finite in epoch {self.epoch + 1}, step {self.step + 1}; a lower "
                f"learning rate may help. The images were {_some(batch.paths)}"
            )
        # the processes' gradients are averaged, but their losses belong to one sum
        share = self.options.bound.data * self.ranks.world / self.settings.batch
        self.scaler.scale(loss * share).backward()
        self.sums.images += len(batch.images)
        self.sums.loss += loss.item()

    def _loss(self, batch: Batch) -> Tensor:
        """The loss, summed over the images of a mini-batch."""
        images = self._images(batch)
        with torch.autocast(self.device.type, enabled=self.options.amp):
            inputs = self.model(images, collect=self.collected)
        inputs = {index: x.float() for index, x in inputs.items()}
        targets = GroundTruth(batch.boxes, batch.labels).to(self.device)
        total = torch.zeros((), device=self.device)
        seen = self._seen() + self.settings.batch  # Darknet counts the images of the step, too
        for index, rule in self.heads.items():
            x = inputs[learns_from(self.network.layers[index])]
            loss = rule.loss(x, targets, seen)
            total = total + loss.total
            self.sums.add(loss)
        if self.teacher:
            hint = self.teacher.loss(images, inputs, targets)
            self.sums.parts["teacher"] = self.sums.parts.get("teacher", 0.0) + hint.item()
            total = total + hint
        return total

    def _images(self, batch: Batch) -> Tensor:
        images = batch.images.to(self.device, non_blocking=True).float() / 255
        if self.options.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images

    def _seen(self) -> int:
        """Number of images that the network has been trained with, as Darknet counts them."""
        return self.header.seen + self.done * self.settings.batch

    def _rate(self, step: int) -> float:
        return self.settings.rate(step, self.options.seed)

    def _shared(self) -> Sums:
        """The epoch's totals over all processes."""
        values = self.ranks.total(self.sums.to_list(), self.device)
        return self.sums.with_values(values)

    def _measure_statistics(self) -> None:
        """Measure the averaged network's BN statistics with its means, on images of the epoch."""
        loader = self._loader(self.epoch - 1, 0)
        with torch.autocast(self.device.type, enabled=self.options.amp):
            measure_statistics(self.ema.network, map(self._images, islice(loader, STATISTICS)))

    def _check_finite(self) -> None:
        for index, tensors in self.ema.network.state().items():
            if not all(tensor.isfinite().all() for tensor in tensors.values()):
                where = self.network.cfg.layers[index].error("has numbers that are not finite")
                raise TrainingError(f"after epoch {self.epoch}: {where}; lower the learning rate")

    def _loader(self, epoch: int, start: int) -> TrainingLoader:
        options, settings = self.options, self.settings
        return training_loader(
            self.data,
            self.network.cfg,
            batch=settings.batch,
            subdivisions=settings.subdivisions,
            seed=options.seed,
            epoch=epoch,
            start=start,
            rank=self.ranks.rank,
            world=self.ranks.world,
            workers=options.workers,
            cache=options.cache,
        )


def steps_per_epoch(data: Data, settings: Settings) -> int:
    """Number of updates of the parameters in which all training images are seen."""
    return -(-len(sources.images(data, "train")) // settings.batch)


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(paths[:NAMED]) + more
