"""Mini-batches made by worker processes, in order, whatever the number of workers is."""

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

Unreadable = tuple[str, str]  # path of an image, why it isn't used


@dataclass(frozen=True)
class Loaded:
    """A mini-batch and what went wrong on the way; `error` ends the iteration.

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
        """Raises DataError for labels that are wrong and where no image can be read."""
        self.skipped, self.problems = [], Problems()
        met: set[str] = set()
        delivered = False
        for loaded in _started(self):
            if loaded.error is not None:
                raise DataError(loaded.error)
            self.skipped += [s for s in dict(loaded.skipped).items() if s[0] not in met]
            met.update(path for path, _ in loaded.skipped)
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
        # what workers share, the cache, they inherit
        multiprocessing_context="fork" if workers and forks else None,
        # else it draws a seed from the generator that initial weights and dropout come from
        generator=torch.Generator(),
    )


def _started(loader: Loader) -> Iterator[Loaded]:
    """Workers are born deaf to signals: one that comes before _start_worker would end them."""
    if not hasattr(signal, "pthread_sigmask"):
        return iter(_loaded(loader))
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        return iter(_loaded(loader))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _start_worker(number: int) -> None:
    """Signals are for the main process, which ends the workers; one thread each is enough."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    sys.excepthook = _report
    cv2.setNumThreads(0)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The thread that hands tensors over finds the main process gone when that was interrupted."""
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
