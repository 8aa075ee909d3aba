"""bench.py train: training, evaluation and loading against the bare operations."""

from __future__ import annotations

import csv
import math
import os
import resource
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.timing import Rows, alternating

if TYPE_CHECKING:
    from torch import Tensor

    from yolo.datasets.batch import Batch
    from yolo.datasets.data import Data
    from yolo.network import Network
    from yolo.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"yolov3-tiny": 416, "yolo-fastest-1.1": 320}  # cfg/NAME.cfg and its input size
BATCH = 8
PHOTOS, SIZE = 48, (500, 375)  # the images of the loader's figures, as large as VOC's
SHOWS = 4  # objects in each
DECODING = "decoding and cv2.resize alone"
# what yolo-fastest-1.1 trained on COCO says of images like those: of its 1,500 boxes 195 are
# candidates for mAP, with 1.8 of 80 classes each
FOUND, CLASSES = 195 / 1500, 1.8 / 80


def train_rows(folder: Path, repeat: int, steps: Callable[[str], None]) -> Rows:
    """Measured, bare, ratio and target of every figure."""
    data = _photographs(folder)
    rows: Rows = []
    for name, size in MODELS.items():
        steps(f"training {name}")
        rows += _model(name, size, data, repeat)
    steps("loading images")
    rows += _loader(data, repeat)
    steps("training in one and in two processes")
    rows.append(_scaling(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return [*rows, ["peak memory of all that", f"{peak / 1e6:.0f} MB", "", "", ""]]


def _model(name: str, size: int, data: Data, repeat: int) -> Rows:
    import torch

    trainer = _trainer(name, size, data)
    network, batch = trainer.network, _batch(size)
    images = batch.images.float().div(255).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 1e-9, 0.9)

    def bare_step() -> None:
        network.train()
        outputs = network(images, collect=network.head_inputs)
        sum(output.sum() for output in outputs.values()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def step() -> None:
        network.train()
        trainer._update([batch], 1e-9)

    training = _ratio(step, bare_step, repeat)
    network.eval()
    _shift_biases(network, images)
    evaluation = _ratio(_evaluated(network, images), _forward(network, images), repeat)
    rate = f"{BATCH} × {size}²"
    return [
        _row(f"{name}, training step, {rate}", training, "0.9 of the convolutions alone"),
        _row(f"{name}, evaluation, {rate}", evaluation, "0.9 of the convolutions alone"),
    ]


def _shift_biases(network: Network, images: Tensor) -> None:
    """Shift what feeds the heads so that as many boxes and classes are found as after training."""
    import torch

    from yolo.heads.common.grid import grid_heads

    with torch.no_grad():
        inputs = network(images, collect=network.head_inputs)
        for head in grid_heads(network.layers):
            source = network.layers[head.sources[0]]
            entries = inputs[head.sources[0]].unflatten(1, (-1, head.entries))
            logits = entries.movedim(2, 0).flatten(1)
            biases = source.stored()["biases"].unflatten(0, (-1, len(logits)))
            objectness = head.coordinates
            for entries, share, confidence in (
                (slice(objectness, objectness + 1), FOUND, 0.01),
                (slice(objectness + 1, None), CLASSES, 0.5),
            ):
                values = logits[entries].flatten().sort().values
                edge = values[int((1 - share) * (len(values) - 1))]
                biases[:, entries] += math.log(confidence / (1 - confidence)) - edge


def _trainer(name: str, size: int, data: Data) -> Trainer:
    from yolo.cfg import Cfg
    from yolo.models.initialize import initialize
    from yolo.network import Network
    from yolo.training.settings import Settings
    from yolo.training.trainer import Options, Trainer

    keys = {"width": size, "height": size, "batch": BATCH, "subdivisions": 1}
    network = Network(Cfg.load(ROOT / "cfg" / f"{name}.cfg").edited({-1: keys}))
    initialize(network)
    options = Options(1, workers=0, channels_last=True)
    return Trainer(network, data, Settings.of(network.cfg), options)


def _batch(size: int) -> Batch:
    import torch

    from yolo.datasets.batch import Batch

    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (BATCH, 3, size, size), generator=random, dtype=torch.uint8)
    boxes = torch.rand(BATCH * SHOWS, 6, generator=random) * 0.5 + 0.2
    boxes[:, 0] = torch.arange(BATCH).repeat_interleave(SHOWS)
    boxes[:, 1] = 0
    labels, sizes = torch.zeros(BATCH, 0), ((size, size),) * BATCH
    return Batch(images, boxes, labels, ("random",) * BATCH, sizes)


def _evaluated(network: Network, images: Tensor) -> Callable[[], object]:
    import torch

    from yolo.detections import detect, suppression

    fused, nms = network.fused().to(memory_format=torch.channels_last), suppression(network)  # type: ignore[call-overload]

    def run() -> None:
        with torch.inference_mode():
            detect(network, fused(images), 0.005, nms)

    return run


def _forward(network: Network, images: Tensor) -> Callable[[], object]:
    import torch

    def run() -> None:
        with torch.inference_mode():
            network(images, collect=network.head_inputs)

    return run


def _loader(data: Data, repeat: int) -> Rows:
    """Loaders in this process against decoding and shrinking alone."""
    from yolo.cfg import Cfg
    from yolo.datasets import sources
    from yolo.evaluation.loader import evaluation_loader
    from yolo.training.loader import training_loader

    cfg = Cfg.load(ROOT / "cfg" / "yolo-fastest-1.1.cfg")
    train = partial(
        training_loader, data, cfg, batch=BATCH, subdivisions=1, seed=0, epoch=0, workers=0
    )
    loaders: dict[str, Callable[[], Iterable[Batch]]] = {
        "loading to train": train,
        "loading to train, cached": partial(train, cache=256),
        "loading to evaluate": partial(evaluation_loader, data, cfg, "train", BATCH, workers=0),
    }
    bare = partial(_decode, sources.images(data, "train"))
    return [
        _row(name, _ratio(partial(_consume, make), bare, repeat, PHOTOS), DECODING)
        for name, make in loaders.items()
    ]


def _consume(make: Callable[[], Iterable[Batch]]) -> None:
    deque(make(), 0)


def _decode(paths: Sequence[str]) -> None:
    import cv2

    for path in paths:
        image = cv2.imread(path)
        assert image is not None
        cv2.resize(image, (320, 320))


def _photographs(folder: Path) -> Data:
    """JPEG files of smooth noise with boxes, and the .data file that lists them."""
    import cv2
    import numpy as np

    from yolo.datasets import sources

    random = np.random.default_rng(0)
    for number in range(PHOTOS):
        coarse = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        photo = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.jpg"), photo)
        boxes = random.uniform(0.2, 0.5, (SHOWS, 4))
        lines = ["0 " + " ".join(f"{value:.4f}" for value in box) for box in boxes]
        (folder / f"{number}.txt").write_text("\n".join(lines))
    (folder / "train.txt").write_text("".join(f"{n}.jpg\n" for n in range(PHOTOS)))
    (folder / "x.names").write_text("".join(f"class{n}\n" for n in range(80)))
    (folder / "x.data").write_text("train=train.txt\nnames=x.names\n")
    return sources.load(folder / "x.data")


def _scaling(folder: Path) -> list[str]:
    """Images a second of tools/train.py with one thread a process."""
    speeds = [_processes(folder, count) for count in (1, 2)]
    cells = [f"{speed:.1f} images/s" for speed in speeds]
    ratio = f"{speeds[1] / speeds[0]:.2f}"
    return ["yolo-fastest-1.1, two processes against one", cells[1], cells[0], ratio, "2"]


def _processes(folder: Path, count: int) -> float:
    out = folder / f"processes{count}"
    module = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    cfg, data = ROOT / "cfg" / "yolo-fastest-1.1.cfg", folder / "x.data"
    model = ["--cfg", str(cfg), "--data", str(data), "--out", str(out)]
    sizes = ["--epochs", "2", "--batch", "16", "--subdivisions", "2", "--workers", "0"]
    command = [sys.executable, *module, str(ROOT / "tools" / "train.py"), *model, *sizes]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        from yolo.errors import DarknetError

        raise DarknetError(f"training in {count} processes: {done.stderr.strip()[-300:]}")
    with (out / "history.csv").open() as file:
        return float(list(csv.DictReader(file))[-1]["images_per_second"])


def _ratio(
    ours: Callable[[], object], bare: Callable[[], object], repeat: int, images: int = BATCH
) -> tuple[float, float]:
    """Images a second of both, medians of alternating runs."""
    fast, plain = (images / seconds for seconds in alternating(repeat, ours, bare))
    return fast, plain


def _row(name: str, speeds: tuple[float, float], target: str) -> list[str]:
    ours, bare = speeds
    return [name, f"{ours:.1f} images/s", f"{bare:.1f} images/s", f"{ours / bare:.2f}", target]
