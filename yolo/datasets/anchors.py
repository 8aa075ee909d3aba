"""Anchors that fit a data set: k-means on its boxes' sizes with the distance 1 − IoU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yolo.datasets import sources
from yolo.datasets.labels import read_labels
from yolo.errors import DataError

BoxSizes = NDArray[np.float64]  # (M, 2): widths and heights


@dataclass(frozen=True)
class Anchors:
    """Anchors in pixels of the network's input, by area, and how well they fit."""

    sizes: BoxSizes  # (K, 2)
    mean_iou: float  # of every box with its best anchor, centres aligned
    boxes: int  # number of boxes that they were fitted to


def box_sizes(
    data: str,
    size: tuple[int, int],
    progress: Callable[[Iterable[str], int], Iterable[str]] = lambda images, _: images,
) -> BoxSizes:
    """Widths and heights of the training boxes in pixels of an input of this width and height.

    Raises DataError for lists or labels that can't be read, or where there is no box.
    """
    source = sources.load(data)
    images = sources.images(source, "train")
    per_image = [read_labels(i, source.classes).boxes for i in progress(images, len(images))]
    boxes = np.concatenate(per_image)
    if not len(boxes):
        raise DataError(f"{data}: no boxes to fit anchors to")
    return boxes[:, 3:].astype(np.float64) * size


def fit_anchors(sizes: BoxSizes, number: int, seed: int = 0, restarts: int = 10) -> Anchors:
    """The best of several k-means (Redmon and Farhadi, YOLO9000, 2017, section 2).

    `sizes` are the boxes' widths and heights in pixels of the network's input. Raises DataError
    where there are fewer different sizes than anchors.
    """
    sizes = sizes[(sizes > 0).all(axis=1)]
    different = len(np.unique(sizes, axis=0))
    if different < number:
        raise DataError(f"{number} anchors can't be fitted to boxes of {different} different sizes")
    random = np.random.RandomState(seed)
    runs = [_cluster(sizes, _spread(sizes, number, random)) for _ in range(restarts)]
    best = max(runs, key=lambda anchors: _fit(sizes, anchors))
    return Anchors(best[np.argsort(best.prod(axis=1))], _fit(sizes, best), len(sizes))


def _iou(sizes: BoxSizes, anchors: BoxSizes) -> NDArray[np.float64]:
    """(M, K) IoU of boxes and anchors with one centre."""
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=2)
    return shared / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared)


def _fit(sizes: BoxSizes, anchors: BoxSizes) -> float:
    return float(_iou(sizes, anchors).max(axis=1).mean())


def _spread(sizes: BoxSizes, number: int, random: np.random.RandomState) -> BoxSizes:
    """First centres, far from each other (k-means++, Arthur and Vassilvitskii, 2007)."""
    chosen = sizes[[random.randint(len(sizes))]]
    while len(chosen) < number:
        chance = (1 - _iou(sizes, chosen).max(axis=1)) ** 2
        chosen = np.vstack([chosen, sizes[random.choice(len(sizes), p=chance / chance.sum())]])
    return chosen


def _cluster(sizes: BoxSizes, anchors: BoxSizes, most: int = 300) -> BoxSizes:
    """Means of the boxes nearest to every anchor, until nothing changes."""
    nearest = None
    for _ in range(most):
        before, nearest = nearest, _iou(sizes, anchors).argmax(axis=1)
        if before is not None and (before == nearest).all():
            break
        members = [sizes[nearest == index] for index in range(len(anchors))]
        # an anchor without boxes stays where it is
        means = [m.mean(axis=0) if len(m) else a for m, a in zip(members, anchors, strict=True)]
        anchors = np.array(means)
    return anchors
