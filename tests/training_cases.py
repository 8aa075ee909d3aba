"""Heads with all the keys of their losses, and truths that make them matter."""

from dataclasses import dataclass

import numpy as np
import torch
from cfgs import net, plain
from networks import build, random_input

from yolo.heads.common.loss import GroundTruth

BATCH = 3
SETTINGS = {"learning_rate": ".01", "momentum": ".9", "decay": 0, "max_batches": 1000}
NET = net(32, 24, batch=BATCH, subdivisions=1, **SETTINGS)
ANCHORS = "anchors=4,5, 8,12, 16,9, 20,22\nnum=4\n"
YOLO = f"[yolo]\nclasses=3\nmask=1,3\n{ANCHORS}"
GAUSSIAN = plain(24, 3, stride=4) + f"[Gaussian_yolo]\nclasses=3\nmask=3,0\n{ANCHORS}"
REGION = plain(24, 3, stride=4) + "[region]\nclasses=3\nnum=3\nanchors=1,1.3, 2,3, 4,2.2\n"
CLASSES = 3


def yolo(*options):
    return plain(16, 3, stride=4) + YOLO + "\n".join(options) + "\n"


def gaussian(*options):
    return GAUSSIAN + "\n".join(options) + "\n"


def region(*options):
    return REGION + "\n".join(options) + "\n"


MANY = ("iou_thresh=.2", "counters_per_class=3,8,0", "cls_normalizer=.4", "obj_normalizer=.7")
ANCHOR_CASES = [
    f(*options)
    for f in (yolo, gaussian)
    for options in (
        (),
        ("ignore_thresh=.3", "scale_x_y=1.2"),
        *((f"iou_loss={kind}", "iou_normalizer=.07") for kind in ("iou", "giou", "diou", "ciou")),
        ("iou_loss=ciou", "max_delta=.3", "iou_thresh=.2", "truth_thresh=.5"),
        *((f"iou_thresh_kind={kind}", "iou_thresh=.1") for kind in ("giou", "diou", "ciou")),
        ("label_smooth_eps=.1", "iou_thresh=.3", "truth_thresh=.4"),
        ("objectness_smooth=1", "ignore_thresh=.2", "truth_thresh=.5"),
        (*MANY, "max_delta=5", "objectness_smooth=1", "ignore_thresh=.2", "truth_thresh=.5"),
        (*MANY, "label_smooth_eps=.2", "iou_loss=giou", "truth_thresh=.3"),
    )
]
ANCHOR_CASES += [
    yolo("new_coords=1", "scale_x_y=2", "iou_loss=ciou", "iou_thresh=.2"),
    yolo("new_coords=1", "scale_x_y=2", "ignore_thresh=.2", "truth_thresh=.4"),
    yolo("focal_loss=1", "iou_thresh=.2", "truth_thresh=.5"),
    gaussian("yolo_point=left_top", "iou_loss=giou", "uc_normalizer=.3"),
    gaussian("yolo_point=right_bottom", "iou_loss=ciou"),
    gaussian("yolo_point=right_bottom", "max_delta=.2"),
]
REGION_CASES = [
    region(),
    region("softmax=1", "bias_match=1", "rescore=1", "coord_scale=2", "object_scale=5"),
    region("softmax=1", "thresh=.2", "noobject_scale=.5", "class_scale=1.5", "focal_loss=1"),
    region("softmax=1", "thresh=.1", "classfix=1"),
    region("softmax=1", "thresh=.2", "classfix=2", "class_scale=.3"),
    region("classfix=-1", "noobject_scale=.7"),
]
DETECTORS = ANCHOR_CASES + REGION_CASES
POOLED = plain(6, 3, stride=4) + "[avgpool]\n"
CLASSIFIERS = [
    f"{POOLED}[softmax]\n",
    f"{POOLED}[softmax]\ngroups=2\ntemperature=2.5\n",
    f"{POOLED}[softmax]\n[cost]\ntype=sse\n",
    f"{POOLED}[softmax]\n[cost]\nscale=.3\ntype=smooth\n",
    f"{POOLED}[softmax]\nnoloss=1\n[cost]\n",
    f"{POOLED}[cost]\n",
    f"{POOLED}[cost]\ntype=smooth\nscale=.5\n",
    f"{POOLED}[cost]\ntype=masked\n",
]


@dataclass(frozen=True)
class Scene:
    """A network, images for it, what enters its head, and targets."""

    network: torch.nn.Module
    images: torch.Tensor
    x: torch.Tensor
    targets: GroundTruth

    @property
    def head(self):
        return self.network.layers[self.network.heads[0]]


def scene(text, seed=0):
    """Truths of all sorts: small, large, near predictions, several in a cell, none at all."""
    network = build(NET + text, seed)
    images = random_input(network, BATCH, seed + 1) * 2
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        last = len(network.layers) - 1
        source = network.head_inputs[0]
        x = network(images, [source])[source]
        labels = torch.from_numpy(rng.dirichlet(np.full(6, 0.3), BATCH).astype(np.float32))
        boxes = torch.zeros(0, 6)
        if hasattr(network.layers[last], "decode"):
            head = network.layers[last]
            boxes = truths(head.decode(head(x)).numpy(), rng)
    return Scene(network, images, x, GroundTruth(boxes, labels))


def truths(predicted, rng):
    """(M, 6) as GroundTruth has them; the image in the middle has none."""
    rows = []
    for image in (0, 2):
        near = predicted[image][rng.integers(len(predicted[image]), size=6), :4]
        near = near * rng.uniform(0.9, 1.1, near.shape)
        near = near[(near[:, :2] > 0).all(1) & (near[:, :2] < 1).all(1) & (near[:, 2:] < 1).all(1)]
        drawn = np.concatenate((rng.uniform(0.01, 0.99, (6, 2)), rng.uniform(0.02, 0.9, (6, 2))), 1)
        shared = drawn[:3] * (1, 1, 0.95, 1.03) + (0.001, 0.001, 0, 0)
        boxes = np.concatenate((near, drawn, shared, drawn[:2]))
        classes = rng.integers(CLASSES, size=(len(boxes), 1))
        rows.append(np.concatenate((np.full_like(classes, image), classes, boxes), 1))
    return torch.from_numpy(np.concatenate(rows).astype(np.float32))
