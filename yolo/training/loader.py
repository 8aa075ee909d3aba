"""Mini-batches for training, for the input of a cfg."""

from __future__ import annotations

import multiprocessing

from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.datasets.augment.settings import Augmentation
from yolo.datasets.augment.views import Views
from yolo.datasets.data import Data
from yolo.datasets.order import Epoch
from yolo.datasets.sizes import Sizes
from yolo.datasets.training import TrainingLoader
from yolo.errors import DataError
from yolo.evaluation.loader import box_sections, task_of


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
    """The mini-batches of an epoch, from step `start` on, augmented as set in [net] and the heads.

    A step is `batch` images, cut into `subdivisions` mini-batches; with `world` processes, process
    `rank` gets its part of them. Random numbers of an image depend only on seed, epoch and
    position, never on workers or processes. `cache`: MiB of decoded files that the workers share.
    `size`: width and height instead of those of [net] and of `random=`. Raises DarknetError.
    """
    if cache and workers and "fork" not in multiprocessing.get_all_start_methods():
        raise DataError("this system can't share a cache of images between loader processes")
    task, images = task_of(cfg, data), len(sources.items(data, "train"))
    views = views_of(cfg)
    return TrainingLoader(
        data,
        task,
        Epoch(images, batch, min(subdivisions, batch), seed, epoch, rank, world),
        Sizes(*size) if size else Sizes.of(cfg.net, task, views.random),
        Augmentation.of(cfg.net, task, views),
        cache,
        start,
        workers,
    )


def views_of(cfg: Cfg) -> Views:
    """The crop and scale settings of the last head with boxes; raises CfgError for bad ones."""
    heads = box_sections(cfg)
    if not heads:
        return Views()
    section, head = heads[-1]
    return Views.of(section, patches=head.sees_patches)
