"""bench.py bayesian: a training step against a plain one; thresholds, rates and export."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.timing import Rows, alternating, ms

if TYPE_CHECKING:
    from yolo.datasets.batch import Batch
    from yolo.datasets.data import Data
    from yolo.network import Network
    from yolo.training.trainer import Trainer

CFG = Path(__file__).resolve().parents[2] / "cfg"
BATCH, CLASSES = 128, 10  # as the cfg asks for


def bayesian_rows(folder: Path, repeat: int, steps: Callable[[str], None]) -> Rows:
    """Measured, bare, ratio and target of every figure."""
    data = _data(folder)
    steps("training VGG-16")
    slow, fast = _training(data, repeat)
    step = [f"training step, VGG-16 Bayesian against plain, {BATCH} × 32²", ms(slow), ms(fast)]
    rows = [[*step, f"{slow / fast:.2f}", "at most 2.2"]]
    return rows + _cut(folder, repeat, steps)


def _training(data: Data, repeat: int) -> tuple[float, float]:
    """Seconds of a step of the Bayesian and of the plain network: medians, measured alternately."""
    trainers = [_trainer(f"vgg16-cifar10{kind}", data) for kind in ("-bayesian", "")]
    batch = _batch()
    steps = [partial(trainer._update, [batch], 1e-9) for trainer in trainers]
    slow, fast = alternating(repeat, *steps)
    return slow, fast


def _cut(folder: Path, repeat: int, steps: Callable[[str], None]) -> Rows:
    """Times of VGG-19 from its posteriors to files for Darknet."""
    from pruning.bayesian.cut import BayesianCut
    from pruning.session import Session
    from pruning.spec import Spec, Thresholds
    from yolo.cfg import Cfg
    from yolo.models.randomize import randomize
    from yolo.models.weights import save_weights
    from yolo.network import Network

    network = Network(Cfg.load(CFG / "vgg19-cifar10-bayesian.cfg"))
    randomize(network)
    thresholds, export = [], []
    for _ in range(repeat):
        steps("thresholds and rates of VGG-19")
        start = time.perf_counter()
        BayesianCut.of(network, Thresholds())
        thresholds.append(time.perf_counter() - start)
        steps("export of VGG-19")
        start = time.perf_counter()
        cut = Session(network).cut(Spec("bayesian", Thresholds()))
        save_weights(cut.network, folder / "vgg19.weights")
        export.append(time.perf_counter() - start)
    named = {"thresholds and rates of VGG-19": thresholds, "cut and export of VGG-19": export}
    return [[name, ms(sorted(kept)[len(kept) // 2]), "", "", ""] for name, kept in named.items()]


def _trainer(name: str, data: Data) -> Trainer:
    from yolo.training.settings import Settings
    from yolo.training.trainer import Options, Trainer

    network = _network(name)
    network.train()
    return Trainer(network, data, Settings(batch=BATCH), Options(1, workers=0, channels_last=True))


def _network(name: str) -> Network:
    from yolo.cfg import Cfg
    from yolo.models.initialize import initialize
    from yolo.network import Network

    network = Network(Cfg.load(CFG / f"{name}.cfg"))
    initialize(network)
    return network


def _batch() -> Batch:
    import torch

    from yolo.datasets.batch import Batch

    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH, 3, 32, 32), generator=random, dtype=torch.uint8)
    labels = torch.eye(CLASSES)[torch.arange(BATCH) % CLASSES]
    return Batch(images, torch.zeros(0, 6), labels, ("random",) * BATCH, ((32, 32),) * BATCH)


def _data(folder: Path) -> Data:
    """A data set that names as many images as a step has; the trainer counts them."""
    import cv2
    import numpy as np

    from yolo.datasets import sources

    names = [f"class{number}" for number in range(CLASSES)]
    images = [f"{names[number % CLASSES]}_{number}.png" for number in range(BATCH)]
    cv2.imwrite(str(folder / images[0]), np.zeros((32, 32, 3), np.uint8))
    (folder / "x.names").write_text("".join(f"{name}\n" for name in names))
    (folder / "train.txt").write_text("".join(f"{image}\n" for image in images))
    (folder / "x.data").write_text("train=train.txt\nnames=x.names\n")
    return sources.load(folder / "x.data")
