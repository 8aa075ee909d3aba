"""Evaluation of a network: mAP of detectors, top-1 and top-k of classifiers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from yolo.datasets.batch import Batch
from yolo.datasets.data import Data
from yolo.datasets.images import Placement, letterbox_placement
from yolo.detections import (
    Detections,
    class_count,
    gives_boxes,
    suppression,
)
from yolo.errors import DarknetError
from yolo.evaluation.average_precision import Matches, average_precisions, count, match
from yolo.evaluation.coco import CocoBoxes
from yolo.evaluation.results import (
    ClassifierEvaluation,
    ClassResult,
    DetectorEvaluation,
    Evaluation,
)
from yolo.inference.runner import Runner, TorchRunner
from yolo.network import Network

CANDIDATE = 0.005  # confidence above which boxes count for mAP (detector.c)
CONFIDENT = 0.25  # … and above which they count for precision and recall
TOP = 5  # k of top-k where the .data file has none

ImageCounter = Callable[[int], object]  # takes how many images are done


@dataclass(frozen=True)
class _Image:
    """Detections in an image, its truths and difficult objects (M, 5), the size of its file."""

    detections: Detections
    truths: Tensor
    difficult: Tensor
    size: tuple[int, int]


class Images(Protocol):
    """A loader of evaluation batches, with its data."""

    data: Data
    letterbox: bool

    def __iter__(self) -> Iterator[Batch]: ...


def evaluate(
    network: Network,
    loader: Images,
    *,
    iou_thresh: float = 0.5,
    points: int = 0,
    conf_thresh: float = CONFIDENT,
    coco: bool = False,
    progress: ImageCounter | None = None,
    runner: Runner | None = None,
) -> Evaluation:
    """mAP of a detector as `darknet detector map` computes it, or the accuracy of a classifier.

    Difficult objects are no truths, and detections of them aren't counted. `progress` is called
    with the number of images of each batch. `runner` computes the network, by default torch; it
    isn't changed. Raises DarknetError where
    its classes aren't those of the data.
    """
    check_classes(network, loader.data)
    runner = runner or TorchRunner(network)
    if not gives_boxes(network):
        return _accuracy(runner, loader, progress)
    names = loader.data.names
    boxes = CocoBoxes(names) if coco else None
    images = []
    for image in _detections(runner, loader, progress):
        images.append(match(image.detections, image.truths, iou_thresh, image.difficult))
        if boxes:
            boxes.add(image.detections, image.truths, image.size, image.difficult)
    matches = Matches.join(images)
    precisions = average_precisions(matches, len(names), points)
    counts = count(matches, len(names), conf_thresh)
    truths_of = [int((matches.truth_classes == c).sum()) for c in range(len(names))]
    columns = precisions.tolist(), counts.tp.tolist(), counts.fp.tolist(), truths_of
    return DetectorEvaluation(
        map=float(precisions.mean()),
        per_class=tuple(ClassResult(*row) for row in zip(names, *columns, strict=True)),
        iou=counts.iou,
        images=len(images),
        iou_thresh=iou_thresh,
        conf_thresh=conf_thresh,
        points=points,
        coco=boxes.summary() if boxes else None,
    )


def check_classes(network: Network, data: Data) -> None:
    """Raises DarknetError where the network and the data differ in their number of classes."""
    classes = class_count(network)
    if classes != data.classes:
        raise DarknetError(
            f"{network.cfg.path}: has {classes} classes, but {data.path} names {data.classes}"
        )


def _counted(loader: Images, progress: ImageCounter | None) -> Iterator[Batch]:
    """Every batch; `progress` is called when the next one is asked for."""
    for batch in loader:
        yield batch
        if progress:
            progress(len(batch))


def _detections(runner: Runner, loader: Images, progress: ImageCounter | None) -> Iterator[_Image]:
    nms = suppression(runner.network)
    for batch in _counted(loader, progress):
        placements = _placements(batch) if loader.letterbox else None
        detections = runner.detect(batch.images, CANDIDATE, nms, placements)
        for number, size in enumerate(batch.sizes):
            truths, difficult = (_of_image(b, number) for b in (batch.boxes, batch.difficult))
            yield _Image(detections[number], truths, difficult, size)


def _of_image(boxes: Tensor, number: int) -> Tensor:
    """The boxes (M, 5) of one image of a batch (M, 6)."""
    return boxes[boxes[:, 0] == number, 1:]


def _placements(batch: Batch) -> list[Placement]:
    height, width = batch.images.shape[2:]
    return [letterbox_placement(w, h, width, height) for w, h in batch.sizes]


def _accuracy(
    runner: Runner, loader: Images, progress: ImageCounter | None
) -> ClassifierEvaluation:
    """Top-1 and top-k as in validate_classifier_single of classifier.c."""
    k = min(loader.data.top or TOP, loader.data.classes)
    first = among = images = 0
    for batch in _counted(loader, progress):
        likeliest = runner.scores(batch.images).topk(k, 1).indices.cpu()
        right = likeliest == batch.labels.argmax(1)[:, None]
        first += int(right[:, 0].sum())
        among += int(right.sum())
        images += len(batch)
    return ClassifierEvaluation(first / max(images, 1), among / max(images, 1), k, images)
