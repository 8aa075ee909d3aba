"""The loaders: mini-batches for training and for evaluation."""

from __future__ import annotations

import multiprocessing

from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.datasets.augment.settings import Augmentation
from yolo.datasets.data import Data, Split
from yolo.datasets.evaluation import EvaluationLoader
from yolo.datasets.order import Epoch
from yolo.datasets.sizes import Sizes
from yolo.datasets.task import Task
from yolo.datasets.training import TrainingLoader
from yolo.errors import DataError


def evaluation_loader(
    data: Data,
    cfg: Cfg,
    split: Split = "valid",
    batch: int = 8,
    workers: int = 2,
    letterbox: bool | None = None,
) -> EvaluationLoader:
    """Mini-batches of a split as Darknet evaluates them; `letterbox` None: as [net] says.

    Detectors: the image resized or letterboxed, boxes as the labels say. Classifiers: the middle of
    the image. Unreadable images are left out and named in `skipped`. Raises DataError.
    """
    boxed = cfg.net.flag("letter_box") if letterbox is None else letterbox
    return EvaluationLoader(data, Task.of(cfg, data), split, batch, workers, boxed)


def training_loader(
    data: Data,
    cfg: Cfg,
    *,
    batch: int,
    subdivisions: int,
    seed: int,
    epoch: int,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    workers: int = 2,
    cache: int = 0,
    size: tuple[int, int] | None = None,
) -> TrainingLoader:
    """The mini-batches of an epoch, from step `start` on, augmented as [net] and the heads ask.

    A step is `batch` images, cut into `subdivisions` mini-batches; with `world` processes, process
    `rank` gets its part of them. What is drawn for an image depends only on seed, epoch and its
    position, never on workers or processes. `cache`: MiB of decoded files that the workers share.
    `size`: width and height instead of those of [net] and of `random=`. Raises DarknetError.
    """
    if cache and workers and "fork" not in multiprocessing.get_all_start_methods():
        raise DataError("this system can't share a cache of images between loader processes")
    task, images = Task.of(cfg, data), len(sources.items(data, "train"))
    return TrainingLoader(
        data,
        task,
        Epoch(images, batch, min(subdivisions, batch), seed, epoch, rank, world),
        Sizes(*size) if size else Sizes.of(cfg, task),
        Augmentation.of(cfg, task),
        cache,
        start,
        workers,
    )
