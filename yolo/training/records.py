"""Counts and means during training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from yolo.heads.common.loss import HeadLoss

Row = dict[str, float]  # numbers of one epoch in the history, by name


@dataclass(frozen=True)
class Update:
    """One update of the parameters, counted from 0; `means` are those of the epoch so far."""

    epoch: int
    number: int
    rate: float
    means: Mapping[str, float]


@dataclass
class Sums:
    """Totals of an epoch so far: over images, but for `iou`, which is over assigned boxes."""

    images: float = 0
    loss: float = 0
    boxes: float = 0
    iou: float = 0
    seconds: float = 0
    parts: dict[str, float] = field(default_factory=dict)

    def add(self, loss: HeadLoss) -> None:
        """Add the loss of a head for a mini-batch."""
        parts = dict(loss.parts)
        count = parts.pop("count", 0.0)
        self.boxes += count
        self.iou += count * parts.pop("iou", 0.0)
        for name, value in parts.items():
            self.parts[name] = self.parts.get(name, 0.0) + value

    def means(self, world: int = 1) -> Row:
        """Losses per image, IoU per assigned box, images per second of `world` processes."""
        images = max(self.images, 1)
        row = {"loss": self.loss / images}
        row |= {name: value / images for name, value in sorted(self.parts.items())}
        if self.boxes:
            row["iou"] = self.iou / self.boxes
        return row | {"images_per_second": world * self.images / max(self.seconds, 1e-9)}

    def to_list(self) -> list[float]:
        """All numbers, in the same order in all processes."""
        values = asdict(self)
        parts = values.pop("parts")
        return [*values.values(), *(parts[name] for name in sorted(parts))]

    def with_values(self, values: list[float]) -> Sums:
        """Totals from the numbers of to_list, with the names of these parts."""
        images, loss, boxes, iou, seconds, *totals = values
        parts = dict(zip(sorted(self.parts), totals, strict=True))
        return Sums(images, loss, boxes, iou, seconds, parts)

    def emptied(self) -> Sums:
        """Zeros for the same parts."""
        return self.with_values([0.0] * len(self.to_list()))
