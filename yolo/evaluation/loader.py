"""Mini-batches for evaluation, for the input of a cfg."""

from __future__ import annotations

from yolo.cfg import Cfg, Section
from yolo.datasets.data import Data, Split
from yolo.datasets.evaluation import EvaluationLoader
from yolo.datasets.task import Task
from yolo.errors import DataError
from yolo.layers import Layer, kind_of
from yolo.network import image_shape


def evaluation_loader(
    data: Data,
    cfg: Cfg,
    split: Split = "valid",
    batch: int = 8,
    workers: int = 2,
    letterbox: bool | None = None,
) -> EvaluationLoader:
    """Mini-batches of a split as Darknet evaluates them; `letterbox` None: as in [net].

    Detectors get the image resized or letterboxed, and boxes as in the label files; classifiers the
    middle of the image. Unreadable images are left out and named in `skipped`. Raises DataError.
    """
    boxed = cfg.net.flag("letter_box") if letterbox is None else letterbox
    return EvaluationLoader(data, task_of(cfg, data), split, batch, workers, boxed)


def task_of(cfg: Cfg, data: Data) -> Task:
    """The task of a cfg; raises DataError where the classes of a head aren't those of the data."""
    shape, heads = image_shape(cfg), box_sections(cfg)
    for section, kind in heads:
        classes = kind.classes_in(section)
        if classes != data.classes:
            raise DataError(
                f"{data.path}: {data.classes} names, but {cfg.path}:{section.line + 1}: "
                f"[{section.name}] has classes={classes}"
            )
    if shape.channels not in (1, 3):
        raise cfg.net.error(f"channels={shape.channels}: images have 1 or 3 channels", "channels")
    return Task(bool(heads), data.classes, shape.channels, shape.height, shape.width)


def box_sections(cfg: Cfg) -> list[tuple[Section, type[Layer]]]:
    """The heads that make a network a detector."""
    kinds = ((section, kind_of(section)) for section in cfg.layers)
    return [(section, kind) for section, kind in kinds if kind.gives_boxes]
