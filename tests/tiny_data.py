"""A data set and networks so small that training them takes a second."""

from pathlib import Path

import cv2
import numpy as np
from cfgs import conv, net, plain, section, shortcut, yolo

from yolo.datasets.sample import NO_LABELS, Sample

NET = net(
    32,
    32,
    batch=4,
    subdivisions=2,
    learning_rate=0.004,
    momentum=0.9,
    decay=0.0005,
    burn_in=2,
    policy="constant",
    max_batches=6,
    hue=".1",
    saturation=1.5,
    exposure=1.5,
)
BODY = conv(8, stride=2) * 2 + conv(8) + shortcut(-2)
LOSS = {"jitter": ".2", "ignore_thresh": ".7", "iou_loss": "ciou", "iou_normalizer": ".07"}
DETECTOR = NET + BODY + section("dropout", probability=".2")
DETECTOR += plain(14) + yolo(2, "0,1", "8,8, 16,16", **LOSS)
CLASSIFIER = NET + BODY + plain(2) + "[avgpool]\n[softmax]\n"
BAYESIAN = CLASSIFIER.replace("[convolutional]", "[bayesian_convolutional]\nclip_var=0.001")
COLOURS = ((230, 40, 40), (40, 40, 230))  # of the two classes


def make_detection_data(folder: Path, train: int = 10, valid: int = 4) -> Path:
    """Images of 40×30 with one or two rectangles in the colour of their class; the .data file."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("valid", valid)):
        names = [_scene(folder, f"{split}{number}", random) for number in range(count)]
        (folder / f"{split}.txt").write_text("".join(f"images/{name}.png\n" for name in names))
    return _data(folder, "names")


def make_classification_data(folder: Path, train: int = 10, valid: int = 4) -> Path:
    """Images of 40×40 in the colour of their class, which their path names."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("valid", valid)):
        paths = []
        for number in range(count):
            kind = ("red", "blue")[number % 2]
            image = random.integers(0, 60, (40, 40, 3)) + np.array(COLOURS[number % 2]) * 3 // 4
            path = f"{split}/{number}_{kind}.png"
            (folder / split).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / path), image.astype(np.uint8)[..., ::-1])
            paths.append(path)
        (folder / f"{split}.txt").write_text("".join(f"{path}\n" for path in paths))
    return _data(folder, "labels")


def _scene(folder: Path, name: str, random: np.random.Generator) -> str:
    image = random.integers(0, 60, (30, 40, 3)).astype(np.uint8)
    lines = []
    for _ in range(random.integers(1, 3)):
        kind = int(random.integers(2))
        w, h = random.integers(8, 18, 2)
        x, y = random.integers(0, 40 - w), random.integers(0, 30 - h)
        image[y : y + h, x : x + w] = COLOURS[kind]
        box = ((x + w / 2) / 40, (y + h / 2) / 30, w / 40, h / 30)
        lines.append(f"{kind} " + " ".join(f"{value:.6f}" for value in box))
    for sub in ("images", "labels"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "images" / f"{name}.png"), image[..., ::-1])
    (folder / "labels" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return name


def _data(folder: Path, key: str) -> Path:
    (folder / "x.names").write_text("red\nblue\n")
    path = folder / "x.data"
    path.write_text(f"classes=2\ntrain=train.txt\nvalid=valid.txt\n{key}=x.names\n")
    return path


def painted(random: np.random.Generator, least: int = 8, most: int = 3) -> Sample:
    """A white rectangle on black, with its box: its sides are from 1/least to 1/most of theirs."""
    width, height = (int(n) for n in random.integers(60, 140, 2))
    w, h = (int(random.integers(n // least, n // most)) for n in (width, height))
    x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + h, x : x + w] = 255
    box = [[1, (x + w / 2) / width, (y + h / 2) / height, w / width, h / height]]
    return Sample(image, np.array(box, np.float32), NO_LABELS, "", (width, height))
