"""Candidates and non-maximum suppression against OpenCV's and against Darknet's loops."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from cfgs import net, plain, region, yolo
from hypothesis import given
from hypothesis import strategies as st
from networks import build, random_input

from yolo import nms
from yolo.boxes import iou
from yolo.datasets.images import letterbox_placement
from yolo.detections import (
    Candidates,
    box_classes,
    candidates,
    detect,
    suppression,
)
from yolo.errors import CfgError, DarknetError
from yolo.nms import Nms

NET = net(16, 8)
YOLO = yolo(3, "0,1", "6,8, 10,9, 12,14")
REGION = region(3, "1,2, 3,1", softmax=1)


def scene(seed: int, count: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes in clumps, so that many overlap, and confidences of which half are 0."""
    generator = torch.Generator().manual_seed(seed)
    clump = torch.rand(max(1, count // 6), 2, generator=generator)
    chosen = torch.randint(len(clump), (count,), generator=generator)
    centre = clump[chosen] + 0.05 * torch.randn(count, 2, generator=generator)
    size = 0.2 + 0.1 * torch.rand(count, 2, generator=generator)
    confidences = torch.rand(count, classes, generator=generator)
    present = torch.rand(count, classes, generator=generator) < 0.5
    return torch.cat((centre, size), 1), confidences * present


def darknet_nms(
    boxes: torch.Tensor, confidences: torch.Tensor, nms: Nms
) -> list[tuple[tuple[float, ...], int, float]]:
    """do_nms_sort and diounms_sort, loop by loop: what is left, in their order."""
    rows = list(range(len(boxes)))
    left = confidences.clone()
    together = same(boxes[:, None], boxes[None], nms).tolist()
    for k in range(confidences.shape[1]):
        rows.sort(key=lambda row: -float(confidences[row, k]))
        for position, i in enumerate(rows):
            if left[i, k] == 0:
                continue
            for j in rows[position + 1 :]:
                if together[i][j]:
                    left[j, k] = 0
    return [
        (tuple(boxes[row].tolist()), k, float(left[row, k]))
        for row in rows
        for k in range(confidences.shape[1])
        if left[row, k] > 0
    ]


def same(a: torch.Tensor, b: torch.Tensor, nms: Nms) -> torch.Tensor:
    if nms.exponent is None:
        return iou(a, b) > nms.thresh
    return iou(a, b, "diou", nms.exponent) > nms.thresh


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from((0.3, 0.45, 0.7)))
def test_plain_nms_is_opencvs(seed: int, count: int, thresh: float) -> None:
    boxes, confidences = scene(seed, count, 1)
    detections = Candidates(boxes, confidences).suppressed(Nms(thresh))
    corner = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]), 1).double().numpy()
    kept = cv2.dnn.NMSBoxes(corner.tolist(), confidences[:, 0].tolist(), 1e-9, thresh)
    assert detections.confidences.tolist() == confidences[np.array(kept, int), 0].tolist()


@given(st.integers(0, 10**6), st.integers(0, 30), st.sampled_from((None, 0.6, 1.1)))
def test_nms_is_darknets(seed: int, count: int, exponent: float | None) -> None:
    """What is left, and its order, which decides between detections of one truth."""
    boxes, confidences = scene(seed, count, 3)
    nms = Nms(0.45, exponent)
    detections = Candidates(boxes, confidences).suppressed(nms)
    rows = detections.boxes.tolist(), detections.classes.tolist(), detections.confidences.tolist()
    got = [(tuple(box), k, p) for box, k, p in zip(*rows, strict=True)]
    assert got == darknet_nms(boxes, confidences, nms)


def test_nms_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, confidences = scene(3, 200, 20)
    whole = Candidates(boxes, confidences).suppressed(Nms(0.45, 0.6))
    monkeypatch.setattr(nms, "LARGEST", 300)
    pieces = Candidates(boxes, confidences).suppressed(Nms(0.45, 0.6))
    assert 0 < len(whole) < int((confidences > 0).sum())
    for name in ("boxes", "classes", "confidences"):
        assert torch.equal(getattr(whole, name), getattr(pieces, name))


def test_boxes_of_other_classes_stay() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2]] * 2)
    confidences = torch.tensor([[0.9, 0.0], [0.0, 0.8]])
    assert len(Candidates(boxes, confidences).suppressed(Nms())) == 2
    assert len(Candidates(boxes, torch.tensor([[0.9], [0.8]])).suppressed(Nms())) == 1
    assert len(Candidates(boxes, torch.tensor([[0.9], [0.8]])).suppressed(None)) == 2


@pytest.mark.parametrize(
    ("keys", "exponent"),
    [
        ("", None),
        ("nms_kind=default\n", None),
        ("nms_kind=cornersnms\n", None),
        ("nms_kind=nothing\n", None),
        ("nms_kind=greedynms\nbeta_nms=0.9\n", 0.6),
        ("nms_kind=diounms\n", 0.6),
        ("nms_kind=diounms\nbeta_nms=0.9\n", 0.9),
    ],
)
def test_the_last_head_chooses_the_kind_of_nms(keys: str, exponent: float | None) -> None:
    head = plain(16) + YOLO
    other = head + "nms_kind=diounms\nbeta_nms=0.1\n"
    assert suppression(build(NET + other + plain(16) + YOLO + keys)) == Nms(0.45, exponent)
    assert suppression(build(NET + head + keys), 0.3) == Nms(0.3, exponent)


def test_region_heads_take_plain_nms() -> None:
    network = build(NET + plain(16) + REGION)
    assert suppression(network) == Nms(0.45, None)


@pytest.mark.parametrize(
    ("head", "thresh"), [(YOLO, 0.1), (YOLO, 0.45), (REGION, 0.3), (REGION + "classfix=-1\n", 0.3)]
)
def test_candidates(head: str, thresh: float) -> None:
    """get_yolo_detections and get_region_boxes, box by box."""
    network = build(NET + plain(16) + head)
    with torch.no_grad():
        outputs = network(3 * random_input(network))
    decoded = network.layers[1].decode(outputs[1])
    for number, image in enumerate(candidates(network, outputs, thresh)):
        wanted = []
        for row in decoded[number]:
            scale = row[4]
            if "classfix" in head and scale < 0.5:
                scale = torch.tensor(0.0)
            if "yolo" in head and not scale > thresh:
                continue
            p = [float(scale * q) if scale * q > thresh else 0.0 for q in row[5:]]
            if any(p):
                wanted.append((row[:4].tolist(), p))
        assert image.boxes.tolist() == [box for box, _ in wanted]
        np.testing.assert_allclose(image.confidences.numpy(), [p for _, p in wanted], rtol=1e-6)
        assert 0 < len(wanted) < len(decoded[number])


@pytest.mark.parametrize("head", [YOLO, REGION])
def test_a_confidence_of_exactly_the_threshold_is_none(head: str) -> None:
    """get_network_boxes of network.c: prob > thresh, and objectness > thresh before it"""
    layer = build(NET + plain(16) + head).layers[1]
    row = torch.tensor([[0.5, 0.5, 0.25, 0.25, 0.5, 0.5, 0.5 + 2**-20, 0.25]])
    assert layer.confidences(row, 0.25).tolist() == [[0, 0.25 + 2**-21, 0]]
    assert layer.confidences(row, 0.249).tolist() == [[0.25, 0.25 + 2**-21, 0]]
    assert layer.confidences(row, 0.5).tolist() == [[0, 0, 0]]


def test_numbers_that_are_not_finite_are_no_candidates() -> None:
    network = build(NET + plain(16) + YOLO)
    outputs = {1: torch.full((1, 16, 8, 16), torch.nan)}
    assert [len(detections) for detections in detect(network, outputs, 0.005, Nms())] == [0]


@pytest.mark.parametrize("size", [(640, 480), (333, 500), (64, 64)])
def test_boxes_find_back_from_the_letterbox(size: tuple[int, int]) -> None:
    placement = letterbox_placement(*size, 320, 256)
    boxes = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.75, 0.5, 0.1]])
    x, y, w, h = placement
    inside = boxes * torch.tensor([w, h, w, h]) + torch.tensor([x, y, 0, 0])
    back = Candidates(inside, torch.zeros(2, 1)).placed(placement).boxes
    torch.testing.assert_close(back, boxes)
    assert w == 1 or h == 1


def test_heads_must_agree_on_the_classes() -> None:
    other = YOLO.replace("classes=3", "classes=2")
    network = build(NET + plain(16) + YOLO + plain(14) + other)
    with pytest.raises(CfgError, match=r"x\.cfg:20: \[yolo\] classes=2, but .* line 10 has 3"):
        box_classes(network)


def test_a_network_without_boxes() -> None:
    with pytest.raises(DarknetError, match="has no head that gives boxes"):
        suppression(build(NET + plain(16)))
