"""Prior boxes of an [ssd] head: a few shapes at every cell of every map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolo.cfg import Section

CLIP_NUMBERS = 2  # a value of clip=


@dataclass(frozen=True)
class PriorOptions:
    """The boxes of one map: sizes and step in pixels of the input, ratios width / height.

    With `largest` 0 there is no square of the size in between; without `step` the cells are spread
    evenly over the input.
    """

    smallest: float
    largest: float
    ratios: tuple[float, ...]
    step: float | None

    @property
    def shapes(self) -> list[tuple[float, float]]:
        """Widths and heights of a cell's boxes, in pixels, in the order of prior_box_layer.cpp."""
        sizes = [self.smallest]
        if self.largest:
            sizes.append((self.smallest * self.largest) ** 0.5)
        squares = [(size, size) for size in sizes]
        others = [(self.smallest * r**0.5, self.smallest / r**0.5) for r in self.ratios]
        return squares + others


def read_options(section: Section, count: int) -> list[PriorOptions]:
    """Options of the `count` maps of an [ssd]; raises CfgError for lists of another length."""
    smallest = _listed(section, "min_sizes", count)
    largest = _listed(section, "max_sizes", count, 0) if section.has("max_sizes") else [0] * count
    steps = _listed(section, "steps", count) if section.has("steps") else [None] * count
    for small, large in zip(smallest, largest, strict=True):
        if 0 < large <= small:
            raise section.error(f"max_sizes has {large:g} where min_sizes has {small:g}")
    ratios = _ratios(section, count)
    columns = zip(smallest, largest, ratios, steps, strict=True)
    return [PriorOptions(*row) for row in columns]


def prior_boxes(
    options: Sequence[PriorOptions],
    maps: Sequence[tuple[int, int]],
    image: tuple[int, int],
    offset: float = 0.5,
    clip: int = 0,
) -> Tensor:
    """Centre x, y, width, height relative to the input: (P, 4) float32, map by map, row by row.

    `maps` and `image` are heights and widths; a box's centre is `offset` steps inside its cell.
    `clip` 1 cuts boxes at the edges as Caffe does, 2 clips each of the four numbers to [0, 1] as
    amdegroot/ssd.pytorch does.
    """
    size = torch.tensor((image[1], image[0]), dtype=torch.float64)
    priors = []
    for own, (height, width) in zip(options, maps, strict=True):
        evenly = size / torch.tensor((width, height))
        step = torch.tensor((own.step,) * 2) if own.step else evenly
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        centres = (torch.stack((columns, rows), 2) + offset) * step.double() / size
        shapes = torch.tensor(own.shapes, dtype=torch.float64) / size
        boxes = centres[:, :, None].expand(-1, -1, len(shapes), -1)
        priors.append(torch.cat((boxes, shapes.expand_as(boxes)), 3).reshape(-1, 4))
    boxes = torch.cat(priors)
    if clip == CLIP_NUMBERS:
        boxes = boxes.clamp(0, 1)
    elif clip:
        low, high = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
        low, high = low.clamp(0, 1), high.clamp(0, 1)
        boxes = torch.cat(((low + high) / 2, high - low), 1)
    return boxes.float()


def _listed(section: Section, key: str, count: int, least: float | None = None) -> list[float]:
    """One number for each map, above 0 or at least `least`."""
    values = section.numbers(key)
    if len(values) != count:
        raise section.error(f"{key} has {len(values)} values for {count} maps", key)
    lowest = min(values)
    if lowest <= 0 if least is None else lowest < least:
        raise section.error(f"{key} has {lowest:g}: expected more than 0", key)
    return list(values)


def _ratios(section: Section, count: int) -> list[tuple[float, ...]]:
    """The aspect ratios of every map except 1, each followed by its inverse unless flip=0.

    `aspect_ratios=2|2,3|2` has one list for each map; a single list is for all maps.
    """
    key = "aspect_ratios"
    lists = section.number_lists(key) if section.has(key) else [()]
    if len(lists) == 1:
        lists = lists * count
    if len(lists) != count:
        raise section.error(f"{key} has {len(lists)} lists for {count} maps", key)
    flip = section.flag("flip", True)
    result = []
    for ratios in lists:
        if any(ratio <= 0 for ratio in ratios):
            raise section.error(f"{key} has {min(ratios):g}: expected more than 0", key)
        both = [(r, 1 / r) if flip else (r,) for r in ratios if r != 1]
        result.append(tuple(value for pair in both for value in pair))
    return result
