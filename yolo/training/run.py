"""A training and its folder: checkpoints, history, curves, the final model."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from yolo.errors import DarknetError, TrainingError
from yolo.files import Writer, check_writable, content_writer, write_files
from yolo.models.checkpoint import Checkpoint, checkpoint_writer, load_checkpoint
from yolo.models.weights import weights_writer
from yolo.network import Network
from yolo.training.curves import curves
from yolo.training.records import Row, Update
from yolo.training.trainer import Trainer

BETWEEN_PICTURES = 20  # pause between drawings over the time for one: short epochs stay short


class Observer(Protocol):
    """An observer of the network after every epoch."""

    def look(self, network: Network) -> Row:
        """Numbers for the history, under names that nothing else uses."""

    def line(self) -> str:
        """Text for the latest numbers; empty before the first look."""

    def writers(self, folder: Path) -> Sequence[tuple[Path, Writer]]:
        """Files that it keeps up to date."""

    def state(self) -> Any:
        """State to resume from: numbers, tensors, and lists of them."""

    def restore(self, state: Any) -> None:
        """Resume from a state."""


class Run:
    """A training that writes its results to a folder; only rank 0 writes.

    `last.pt` and `best.pt`, both with the averaged tensors, and `history.csv` are written after
    every epoch; `curves.png` and the observer's files from time to time and at the end; NAME.cfg,
    NAME_last.weights and NAME_best.weights at the end. A file that can't be written doesn't stop
    the training: it is tried again after the next epoch, and is an error only at the end.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        name: str,
        metric: Callable[[Network], Row] | None = None,
        every: int = 1,
        observer: Observer | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.trainer, self.folder, self.name = trainer, folder, name
        self.metric, self.every, self.observer = metric, every, observer
        self.arguments = dict(arguments or {})
        self.history: list[Row] = []
        self.best = -1.0
        self.unsaved: DarknetError | None = None
        self._new_best: Checkpoint | None = None
        self._drawn, self._next_drawing = 0, 0.0  # epochs in the pictures; time of the next ones

    @property
    def last_path(self) -> Path:
        return self.folder / "last.pt"

    @property
    def best_path(self) -> Path:
        return self.folder / "best.pt"

    def epochs(self, watch: Callable[[Update], None] = lambda step: None) -> Iterator[Row]:
        """Train to the end or until the trainer is stopped; yields the history's rows.

        Raises TrainingError where the loss isn't finite, DarknetError where nothing can be written
        to the folder or the last files could not be.
        """
        if self.trainer.ranks.first:
            check_writable(self.last_path)
        for row in self.trainer.run(watch):
            if self.trainer.ranks.first:
                try:
                    row = joined(row, self._looked())
                finally:  # save the epoch even where its evaluation fails
                    self.history.append(row)
                    self._save()
            self.trainer.ranks.wait()
            yield row
        if self.trainer.ranks.first:
            if self.trainer.step or not self.history or self._drawn < len(self.history):
                self._save(at_end=True)
            if self.unsaved:
                raise self.unsaved

    def resume(self, checkpoint: Checkpoint) -> None:
        """Resume where the checkpoint was saved; raises TrainingError without a training state."""
        training = checkpoint.training
        if "trainer" not in training:
            raise TrainingError("can't resume: the checkpoint holds no training state")
        self.trainer.restore(checkpoint, training["trainer"])
        self.history = list(training["history"])
        if self.best_path.exists():  # it is missing where the folder is another one
            self.best = training["best"]
        if self.observer and "observer" in training:
            self.observer.restore(training["observer"])

    def write_model(self) -> list[Path]:
        """Write the trained cfg and weights for Darknet; returns their paths.

        A Bayesian network has no weights for Darknet until it is cut: its file is last.pt.
        """
        if self.trainer.variational:
            path = self.folder / f"{self.name}.cfg"
            self.trainer.network.cfg.write(path)
            return [path, self.last_path]
        models = [("last", self.trainer.checkpoint())]
        if self.best >= 0 and self.best_path.exists():  # with best < 0 it is another training's
            models.append(("best", load_checkpoint(self.best_path)))
        cfg = models[0][1].cfg.to_bytes()
        writers = [(self.folder / f"{self.name}.cfg", content_writer(cfg))]
        for which, checkpoint in models:
            writer = weights_writer(checkpoint.network(), checkpoint.header)
            writers.append((self.folder / f"{self.name}_{which}.weights", writer))
        write_files(writers)
        return [path for path, _ in writers]

    def _looked(self) -> Row:
        """Numbers of the evaluation and the observer for the network now."""
        row: Row = {}
        trainer = self.trainer
        last = trainer.epoch == trainer.options.epochs
        if self.metric and self.every and (last or trainer.epoch % self.every == 0):
            row |= self.metric(trainer.ema.network)
            if row["score"] > self.best:
                self.best = row["score"]
                self._new_best = trainer.checkpoint().copy()
        if self.observer:
            row = joined(row, self.observer.look(trainer.ema.network))
        return row

    def _save(self, at_end: bool = False) -> None:
        training = {
            "trainer": self.trainer.state(),
            "history": self.history,
            "best": self.best,
            "arguments": self.arguments,
        }
        if self.observer:
            training["observer"] = self.observer.state()
        last = self.trainer.checkpoint(training)
        writers: list[tuple[Path, Writer]] = [
            (self.last_path, checkpoint_writer(last)),
            (self.folder / "history.csv", content_writer(history_csv(self.history))),
        ]
        if self._new_best:
            writers.append((self.best_path, checkpoint_writer(self._new_best)))
        pictures = self._pictures() if at_end or time.monotonic() >= self._next_drawing else []
        try:
            write_files([*writers, *pictures])
            self._new_best = self.unsaved = None
            self._drawn = len(self.history) if pictures else self._drawn
        except DarknetError as error:
            self.unsaved = error

    def _pictures(self) -> list[tuple[Path, Writer]]:
        start = time.monotonic()
        files = [(self.folder / "curves.png", content_writer(curves(self.history, self.name)))]
        if self.observer:
            files += self.observer.writers(self.folder)
        now = time.monotonic()
        self._next_drawing = now + BETWEEN_PICTURES * (now - start)
        return files


def joined(row: Row, more: Row) -> Row:
    """A row with all numbers; raises ValueError for a name in both, as one would be lost."""
    both = sorted(row.keys() & more.keys())
    if both:
        raise ValueError(f"two numbers of an epoch are named {', '.join(both)}")
    return row | more


def history_csv(history: Sequence[Row]) -> bytes:
    """CSV with one line for each epoch; a cell is empty where an epoch lacks the number."""
    names = list(dict.fromkeys(name for row in history for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)
    return text.getvalue().encode()
