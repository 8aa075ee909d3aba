"""mAP and accuracy: against Darknet's own numbers, its loops, and pycocotools."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cfgs import conv, net, plain, yolo
from hypothesis import given
from hypothesis import strategies as st
from networks import build

from yolo.datasets import sources
from yolo.datasets.batch import Batch
from yolo.datasets.data import Data
from yolo.detections import Detections
from yolo.errors import DarknetError
from yolo.evaluation.average_precision import (
    Matches,
    average_precision,
    average_precisions,
    count,
    match,
)
from yolo.evaluation.coco import CocoBoxes
from yolo.evaluation.evaluate import evaluate
from yolo.evaluation.loader import evaluation_loader
from yolo.evaluation.results import ClassifierEvaluation, DetectorEvaluation
from yolo.models.load import load_model

CLASSIFIER = net(4, 4) + plain(7, activation="leaky") + "[avgpool]\n[softmax]\n"
DETECTOR = net(32, 32) + conv(14, stride=4, activation="linear") + yolo(2, "0,1", "6,8, 10,9")


@dataclass(frozen=True)
class Batches:
    """Batches instead of files."""

    data: Data
    batches: tuple[Batch, ...]
    letterbox: bool = False

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


def data_of(*names: str, top: int | None = None) -> Data:
    return Data("x.data", names, names, {}, top=top)


def batch_of(images: torch.Tensor, boxes: torch.Tensor, labels: torch.Tensor) -> Batch:
    count = len(images)
    return Batch(images, boxes, labels, ("x.jpg",) * count, ((64, 48),) * count)


def darknet_ap(hits: list[bool], truths: int, points: int) -> float:
    """validate_detector_map's loops for one class."""
    recalls, precisions, tp = [], [], 0
    for rank, hit in enumerate(hits):
        tp += hit
        precisions.append(tp / (rank + 1))
        recalls.append(tp / truths if truths else 0.0)
    if not hits:
        return 0.0
    if points:
        return (
            sum(
                max(
                    (p for p, r in zip(precisions, recalls, strict=True) if r >= n / (points - 1)),
                    default=0,
                )
                for n in range(points)
            )
            / points
        )
    area, last_recall, last_precision = 0.0, recalls[-1], precisions[-1]
    for rank in range(len(hits) - 2, -1, -1):
        delta, last_recall = last_recall - recalls[rank], recalls[rank]
        last_precision = max(last_precision, precisions[rank])
        area += delta * last_precision
    return area + last_recall * last_precision


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 15), st.sampled_from((0, 11, 101)))
def test_average_precision_is_darknets(hits: list[bool], missed: int, points: int) -> None:
    truths = sum(hits) + missed
    ours = average_precision(np.array(hits, bool), truths, points)
    assert ours == pytest.approx(darknet_ap(hits, truths, points), abs=1e-12)


def detections(*rows: tuple[float, float, int, float]) -> Detections:
    """Boxes of 0.2 × 0.2 from (x, y, class, confidence)."""
    boxes = torch.tensor([[x, y, 0.2, 0.2] for x, y, _, _ in rows]).reshape(-1, 4)
    classes = torch.tensor([k for _, _, k, _ in rows], dtype=torch.long)
    return Detections(boxes, classes, torch.tensor([p for _, _, _, p in rows]))


TRUTHS = torch.tensor([[0, 0.3, 0.3, 0.2, 0.2], [1, 0.3, 0.3, 0.2, 0.2], [0, 0.7, 0.7, 0.2, 0.2]])


def test_a_detection_finds_the_truth_that_it_overlaps_most() -> None:
    truths = torch.tensor([[0, 0.3, 0.3, 0.2, 0.2], [0, 0.34, 0.3, 0.2, 0.2]])
    matches = match(detections((0.33, 0.3, 0, 0.9), (0.31, 0.3, 0, 0.8)), truths, 0.5)
    assert matches.truths.tolist() == [1, 0]


def test_the_overlap_must_be_larger_than_the_threshold() -> None:
    half = detections((0.3, 0.3, 0, 0.9))
    half = replace(half, boxes=torch.tensor([[0.25, 0.25, 0.5, 0.5]]))
    truth = torch.tensor([[0, 0.25, 0.125, 0.5, 0.25]])  # IoU exactly 0.5
    assert match(half, truth, 0.5).truths.tolist() == [-1]
    assert match(half, truth, 0.49).truths.tolist() == [0]


def test_truths_are_found_once_and_by_their_own_class() -> None:
    predicted = detections(
        (0.3, 0.3, 0, 0.9), (0.3, 0.3, 1, 0.8), (0.31, 0.3, 0, 0.7), (0.7, 0.7, 1, 0.6)
    )
    matches = Matches.join([match(predicted, TRUTHS, 0.5), match(predicted, TRUTHS[:0], 0.5)])
    counts = count(matches, 3, 0.25)
    assert (counts.tp.tolist(), counts.fp.tolist()) == ([1, 1, 0], [3, 3, 0])
    assert counts.iou == pytest.approx(2 / 8)
    assert average_precisions(matches, 3).tolist() == [0.5, 1, 0]


def test_in_darknets_count_an_unsure_detection_takes_the_truth_of_a_later_one() -> None:
    predicted = detections((0.31, 0.3, 0, 0.1), (0.3, 0.3, 0, 0.9))
    counts = count(match(predicted, TRUTHS, 0.5), 2, 0.25)
    assert (counts.tp.tolist(), counts.fp.tolist()) == ([0, 0], [1, 0])
    # for AP the surest comes first
    assert average_precisions(match(predicted, TRUTHS[:1], 0.5), 2).tolist() == [1, 0]


def test_a_confidence_of_exactly_the_threshold_does_not_count() -> None:
    """validate_detector_map of detector.c: p > thresh_calc_avg_iou"""
    matches = match(detections((0.3, 0.3, 0, 0.25), (0.5, 0.5, 0, 0.25)), TRUTHS, 0.5)
    at, below = count(matches, 2, 0.25), count(matches, 2, 0.249)
    assert (at.tp.tolist(), at.fp.tolist()) == ([0, 0], [0, 0])
    assert (below.tp.tolist(), below.fp.tolist()) == ([1, 0], [1, 0])


def test_coco_agrees_on_boxes_without_neighbours() -> None:
    """COCOeval's AP50 is the mean over 101 recalls, too."""
    generator = np.random.default_rng(0)
    coco, images = CocoBoxes(["a", "b"]), []
    for _ in range(12):
        centres = [(x, y) for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)]
        truths = [
            (k, x, y, 0.2, 0.2) for x, y in centres for k in (0, 1) if generator.random() < 0.3
        ]
        rows = [
            (x + generator.uniform(-0.06, 0.06), y, k, generator.random())
            for x, y in centres
            for k in (0, 1)
            if generator.random() < 0.4
        ]
        tensor = torch.tensor(truths).reshape(-1, 5)
        predicted = detections(*rows)
        coco.add(predicted, tensor, (500, 400))
        images.append(match(predicted, tensor, 0.5))
    summary = coco.summary()
    ours = average_precisions(Matches.join(images), 2, 101)
    assert 0.05 < ours.mean() < 0.9
    assert summary["AP50"] == pytest.approx(float(ours.mean()), abs=1e-6)
    assert summary["APsmall"] is None  # all boxes have 100 × 80 pixels
    assert summary["AP"] < summary["AP50"]


def test_coco_sizes_are_those_of_the_image_files(capsys: pytest.CaptureFixture[str]) -> None:
    coco = CocoBoxes(["a"])
    predicted = detections((0.5, 0.5, 0, 0.9))
    coco.add(predicted, torch.tensor([[0, 0.5, 0.5, 0.2, 0.2]]), (100, 100))  # 20 × 20: small
    coco.add(predicted, torch.tensor([[0, 0.5, 0.5, 0.2, 0.2]]), (600, 600))  # 120 × 120: large
    coco.add(detections(), torch.zeros(0, 5), (600, 600))
    summary = coco.summary()
    assert (summary["APsmall"], summary["APlarge"]) == pytest.approx((1, 1))
    assert summary["APmedium"] is None
    assert capsys.readouterr().out == ""


def test_coco_without_any_detection() -> None:
    coco = CocoBoxes(["a"])
    coco.add(detections(), torch.tensor([[0, 0.5, 0.5, 0.2, 0.2]]), (100, 100))
    assert coco.summary()["AP"] == 0


def test_the_network_stays_as_it_is() -> None:
    network = build(DETECTOR).train()
    before = copy.deepcopy(network.state_dict())
    images = torch.rand(3, 3, 32, 32)
    boxes = torch.tensor([[0, 1, 0.5, 0.5, 0.2, 0.2], [2, 0, 0.5, 0.5, 0.2, 0.2]])
    counted: list[int] = []
    loader = Batches(data_of("a", "b"), (batch_of(images, boxes, torch.zeros(3, 0)),) * 2)
    evaluation = evaluate(network, loader, progress=counted.append)
    assert isinstance(evaluation, DetectorEvaluation)
    assert (evaluation.images, counted, network.training) == (6, [3, 3], True)
    assert [result.truths for result in evaluation.per_class] == [2, 2]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert all(p.requires_grad for p in network.parameters())


def test_json_and_table_tell_the_same() -> None:
    network = build(DETECTOR)
    boxes = torch.tensor([[0, 1, 0.5, 0.5, 0.2, 0.2]])
    loader = Batches(
        data_of("a", "b"), (batch_of(torch.rand(2, 3, 32, 32), boxes, torch.zeros(2, 0)),)
    )
    evaluation = evaluate(network, loader, coco=True)
    content = json.loads(json.dumps(evaluation.to_json()))
    assert {"map", "per_class", "precision", "recall", "f1", "images", "coco"} <= content.keys()
    assert content["map"] == evaluation.score == sum(c["ap"] for c in content["per_class"]) / 2
    assert f"{evaluation.score:.6f}" in evaluation.table()
    assert "1 class has no object" in evaluation.table()


def test_accuracy_of_classifiers() -> None:
    network = build(CLASSIFIER)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 4, 4, generator=generator)
    labels = torch.randint(7, (40,), generator=generator)
    order = network(images)[2].flatten(1).argsort(1, descending=True)
    wanted = [(order[:, :k] == labels[:, None]).any(1).double().mean().item() for k in (1, 3)]
    one_hot = torch.nn.functional.one_hot(labels, 7).float()
    loader = Batches(data_of(*"abcdefg", top=3), (batch_of(images, torch.zeros(0, 6), one_hot),))
    result = evaluate(network, loader)
    assert isinstance(result, ClassifierEvaluation)
    assert [result.top1, result.topk] == pytest.approx(wanted)
    assert result.to_json() == {"top1": result.top1, "top3": result.topk, "k": 3, "images": 40}
    assert result.score == result.top1


@pytest.mark.parametrize(("text", "knows"), [(DETECTOR, 2), (CLASSIFIER, 7)])
def test_other_classes_than_the_network_knows(text: str, knows: int) -> None:
    with pytest.raises(DarknetError, match=rf"x\.cfg: has {knows} classes, but x\.data names 3"):
        evaluate(build(text), Batches(data_of("a", "b", "c"), ()))


def coco128(shared: Path, folder: Path) -> Path:
    images = sorted((shared / "data/coco128/images").iterdir())
    return data_file(folder, images, shared / "data/coco128/coco.names")


def voc100(shared: Path, folder: Path) -> Path:
    """The boxes of the XML files as they stand."""
    source = shared / "data/voc100"
    names = (source / "voc.names").read_text().split()
    images = []
    for path in sorted((source / "images").iterdir()):
        images.append(folder / path.name)
        images[-1].symlink_to(path)
        root = ElementTree.parse(source / "annotations" / f"{path.stem}.xml").getroot()
        width, height = (float(root.findtext(f"size/{key}", "")) for key in ("width", "height"))
        lines = []
        for item in root.iter("object"):
            edges = [
                float(item.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax")
            ]
            x0, y0, x1, y1 = edges
            centre = (x0 + x1) / 2 / width, (y0 + y1) / 2 / height
            size = (x1 - x0) / width, (y1 - y0) / height
            number = names.index(item.findtext("name", ""))
            lines.append(" ".join(map(str, (number, *centre, *size))))
        images[-1].with_suffix(".txt").write_text("\n".join(lines))
    return data_file(folder, images, source / "voc.names")


def data_file(folder: Path, images: list[Path], names: Path) -> Path:
    (folder / "valid.txt").write_text("\n".join(map(str, images)))
    (folder / "x.data").write_text(f"valid={folder / 'valid.txt'}\nnames={names}\n")
    return folder / "x.data"


@pytest.mark.parametrize(
    ("make", "model", "options", "wanted", "positives", "iou", "of_jpeg"),
    [
        (voc100, "mobilenetv2-yolo-fastest-voc", {}, 0.566407, (135, 145), 0.3341, 0.563656),
        (voc100, "yolo-lite-voc", {"points": 11}, 0.443645, (120, 351), 0.1686, 0.443569),
        (coco128, "yolo-fastest-1.1-coco", {}, 0.329109, (271, 403), 0.2840, 0.328778),
    ],
)
def test_the_numbers_of_darknet(  # type: ignore[no-untyped-def]
    shared: Path, tmp_path: Path, make, model, options, wanted, positives, iou, of_jpeg
) -> None:
    """`darknet detector map` of AlexeyAB, on the pixels that OpenCV decodes (as PNG files).

    `of_jpeg` is what it says of the JPEG files: built without OpenCV it decodes them differently.
    """
    path = shared / "data/models" / model
    network, _ = load_model(f"{path}.cfg", f"{path}.weights")
    data = sources.load(make(shared, tmp_path))
    evaluation = evaluate(network, evaluation_loader(data, network.cfg, workers=0), **options)
    assert isinstance(evaluation, DetectorEvaluation)
    assert evaluation.map == pytest.approx(wanted, abs=1e-4)
    assert evaluation.map == pytest.approx(of_jpeg, abs=0.005)
    assert (evaluation.tp, evaluation.fp) == pytest.approx(positives, abs=2)
    assert evaluation.iou == pytest.approx(iou, abs=0.002)
