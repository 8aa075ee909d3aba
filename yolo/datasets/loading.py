"""Mini-batches made by worker processes, in an order that doesn't depend on their number."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from yolo.datasets.batch import Batch
from yolo.datasets.labels import Problems
from yolo.errors import DataError

Unreadable = tuple[str, str]  # path of an image, the reason why it isn't used


@dataclass(frozen=True)
class Loaded:
    """A mini-batch with the problems that occurred; `error` ends the iteration.

    Errors travel as data: an exception that leaves a worker becomes a page of traceback.
    """

    batch: Batch | None
    skipped: tuple[Unreadable, ...] = ()
    problems: Problems = field(default_factory=Problems)
    error: str | None = None


class Loader(ABC):
    """An iterable of mini-batches.

    `skipped`: the images that could not be read, with the reason; `problems`: counts of labels that
    had to be corrected. Both belong to the latest iteration and grow while it lasts.
    """

    skipped: list[Unreadable]
    problems: Problems

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.skipped, self.problems = [], Problems()

    @abstractmethod
    def __len__(self) -> int:
        """The number of mini-batches."""

    @abstractmethod
    def load(self, number: int) -> Loaded:
        """Make one mini-batch, in a worker."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield the mini-batches; raises DataError for wrong labels, or if no image can be read."""
        self.skipped, self.problems = [], Problems()
        reported: set[str] = set()
        delivered = False
        for loaded in _started(self):
            if loaded.error is not None:
                raise DataError(loaded.error)
            self.skipped += [s for s in dict(loaded.skipped).items() if s[0] not in reported]
            reported.update(path for path, _ in loaded.skipped)
            self.problems += loaded.problems
            if loaded.batch is not None:
                delivered = True
                yield loaded.batch
        if self.skipped and not delivered:
            raise DataError(f"no image can be read; the first: {self.skipped[0][1]}")


class _Tasks(Dataset[Loaded]):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __getitem__(self, number: int) -> Loaded:
        try:
            return self.loader.load(number)
        except DataError as error:
            return Loaded(None, error=str(error))


def _loaded(loader: Loader) -> DataLoader[Loaded]:
    workers = min(loader.workers, len(loader))
    forks = "fork" in multiprocessing.get_all_start_methods()
    return DataLoader(
        _Tasks(loader),
        batch_size=None,  # a task is a mini-batch
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_start_worker,
        # workers inherit the shared cache
        multiprocessing_context="fork" if workers and forks else None,
        # else its seed would be drawn from the generator of initial weights and dropout
        generator=torch.Generator(),
    )


def _started(loader: Loader) -> Iterator[Loaded]:
    """Start the workers with signals blocked: one before _start_worker would end them."""
    if not hasattr(signal, "pthread_sigmask"):
        return iter(_loaded(loader))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        return iter(_loaded(loader))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _start_worker(number: int) -> None:
    """Ignore signals, which the main process handles; use one thread."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    sys.excepthook = _report
    cv2.setNumThreads(0)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error, unless the main process was interrupted and the connection is lost."""
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
