"""The loss of [ssd]: assignment of truths to prior boxes, and the MultiBox loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from yolo.boxes import iou
from yolo.heads.common.loss import GroundTruth, HeadLoss
from yolo.heads.ssd.decode import PriorHead

LARGEST = 2**24  # numbers in a temporary tensor
LEAST_OVERLAP = 1e-6  # bbox_util.cpp


@dataclass(frozen=True)
class Assigned:
    """The prior boxes that should find a truth: (K,) images, priors, numbers of truths."""

    images: Tensor
    priors: Tensor
    truths: Tensor


class MultiboxLoss:
    """Smooth L1 of the shifts, cross entropy of the classes, over the number of positives.

    A prior is positive for the truth that it overlaps most if their IoU is at least `overlap=`;
    the prior that overlaps a truth most is always positive. Of the others only the hardest,
    `neg_pos=` times the number of positives, learn background (multibox_loss_layer.cpp).
    """

    def __init__(self, head: PriorHead) -> None:
        self.head = head
        self.overlap = head.section.number("overlap", 0.5)
        self.neg_pos = head.section.number("neg_pos", 3.0)
        if head.section.integer("random", 0, -(2**31)):
            raise head.section.error(
                "random= (inputs of several sizes) can't be combined with prior boxes: remove it"
            )
        for key, value in (("overlap", self.overlap), ("neg_pos", self.neg_pos)):
            if value <= 0:
                raise head.section.error(f"{key}={value:g}: expected more than 0", key)

    def loss(self, x: Tensor, targets: GroundTruth, seen: int) -> HeadLoss:
        """The loss from the head's output (N, 5 + classes, P, 1) and the truths.

        Like all losses it is a sum over images: the mean over the batch's positives, times N.
        """
        rows = x[..., 0].transpose(1, 2).float()
        boxes = targets.boxes.to(rows)
        boxes = boxes[(boxes[:, 4:] > 0).all(1)]
        priors = self.head.priors.to(rows)
        positives = assign(priors, boxes, len(x), self.overlap)
        truths = boxes[positives.truths]
        shifts = rows[positives.images, positives.priors, :4]
        wanted = self.head.shifts(truths[:, 2:], priors[positives.priors])
        labels = torch.zeros(rows.shape[:2], dtype=torch.long, device=x.device)
        labels[positives.images, positives.priors] = truths[:, 1].long() + 1
        count = len(positives.images)
        share = len(x) / max(count, 1)
        box = F.smooth_l1_loss(shifts, wanted, reduction="sum") * share
        classes = self._classes(rows[..., 4:], labels) * share
        with torch.no_grad():
            decoded = self.head.boxes(rows[..., :4])[positives.images, positives.priors]
            hit = iou(decoded, truths[:, 2:])
        numbers = torch.stack((box, classes, hit.sum() / max(count, 1))).tolist()
        parts = dict(zip(("box", "class", "iou"), numbers, strict=True))
        return HeadLoss(box + classes, parts | {"count": float(count)})

    def _classes(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy of the positives and of each image's hardest negatives, summed."""
        positive = labels > 0
        with torch.no_grad():
            hardness = rows.logsumexp(2) - rows[..., 0]
            hardness = hardness.masked_fill(positive, -torch.inf)
            most = (positive.sum(1) * self.neg_pos).long().minimum((~positive).sum(1))
            rank = hardness.argsort(1, descending=True).argsort(1)
            learns = positive | (rank < most[:, None])
        return F.cross_entropy(rows[learns], labels[learns], reduction="sum")


def assign(priors: Tensor, boxes: Tensor, images: int, overlap: float) -> Assigned:
    """Assign priors (P, 4) to the truths (M, 6) of a batch of images.

    First come the best pairs of a truth and a prior, each used once, so that every truth has a
    prior (Caffe's bipartite matching), then the other priors that overlap a truth enough.
    """
    best, which = _best_truths(priors, boxes, images)
    owner = torch.where(best >= overlap, which, -1)
    prior = _best_priors(priors, boxes)
    number = (prior >= 0).nonzero()[:, 0]
    owner[boxes[number, 0].long(), prior[number]] = number
    image, prior = (owner >= 0).nonzero(as_tuple=True)
    return Assigned(image, prior, owner[image, prior])


def _best_truths(priors: Tensor, boxes: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """Largest overlap of every prior with a truth, and that truth's number: (N, P) each."""
    best = priors.new_full((images, len(priors)), -1.0)
    which = torch.full_like(best, -1, dtype=torch.long)
    for number in boxes[:, 0].long().unique().tolist():
        mine = (boxes[:, 0] == number).nonzero()[:, 0]
        best[number], at = iou(priors[:, None], boxes[mine, 2:]).max(1)
        which[number] = mine[at]
    return best, which


def _best_priors(priors: Tensor, boxes: Tensor) -> Tensor:
    """A prior for every truth (M,), none twice in an image, -1 where no overlapping one is left.

    The best pair of an image comes first, then the best of the rest. Every round makes all pairs
    in which each is the best for the other.
    """
    images = boxes[:, 0].long()
    step = max(1, LARGEST // len(priors))
    parts = [iou(part[:, None], priors) for part in boxes[:, 2:].split(step)]
    overlaps = torch.cat(parts) if len(boxes) else boxes.new_zeros(0, len(priors))
    best = torch.full_like(images, -1)
    left = torch.arange(len(boxes), device=boxes.device)
    while len(left):
        value, prior = overlaps[left].max(1)
        rivals = overlaps[left[:, None], prior].masked_fill(images[left, None] != images[left], -1)
        wins = (value == rivals.max(0).values).nonzero()[:, 0]
        wins = wins[_first_of_each(images[left[wins]] * len(priors) + prior[wins])]
        best[left[wins]] = prior[wins].where(value[wins] > LEAST_OVERLAP, -1)
        for image, taken in zip(images[left[wins]].tolist(), prior[wins].tolist(), strict=True):
            overlaps[images == image, taken] = -1
        unmatched = torch.ones_like(left, dtype=torch.bool)
        unmatched[wins] = False
        left = left[unmatched]
    return best


def _first_of_each(keys: Tensor) -> Tensor:
    """Indices at which each value appears for the first time."""
    order = keys.argsort(stable=True)
    new = torch.ones_like(order, dtype=torch.bool)
    new[1:] = keys[order][1:] != keys[order][:-1]
    return order[new]
