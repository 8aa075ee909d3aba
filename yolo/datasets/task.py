"""What a cfg asks of its data."""

from __future__ import annotations

from dataclasses import dataclass

from yolo.cfg import Cfg, Section
from yolo.datasets.data import Data
from yolo.errors import DataError
from yolo.heads.base import BoxHead
from yolo.layers import kind_of
from yolo.network import image_shape


@dataclass(frozen=True)
class Task:
    """Boxes or classes, and the input: channels, height and width of [net]."""

    is_detector: bool
    classes: int
    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, cfg: Cfg, data: Data) -> Task:
        """Raises DataError where the classes of a head aren't those of the data."""
        shape, heads = image_shape(cfg), box_heads(cfg)
        for head in heads:
            classes = head.integer("classes", 1 if head.type == "detection" else 20)
            if classes != data.classes:
                raise DataError(
                    f"{data.path}: {data.classes} names, but {cfg.path}:{head.line + 1}: "
                    f"[{head.name}] has classes={classes}"
                )
        if shape.channels not in (1, 3):
            raise cfg.net.error(
                f"channels={shape.channels}: images have 1 or 3 channels", "channels"
            )
        return cls(bool(heads), data.classes, shape.channels, shape.height, shape.width)


def box_heads(cfg: Cfg) -> tuple[Section, ...]:
    """The heads that make a network a detector."""
    return tuple(section for section in cfg.layers if issubclass(kind_of(section), BoxHead))
