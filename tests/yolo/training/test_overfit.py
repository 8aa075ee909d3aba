"""Real images and a real model: training finds what it is shown."""

import dataclasses
from pathlib import Path

import numpy as np

from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.datasets.data import Data
from yolo.datasets.labels import read_labels
from yolo.evaluation.evaluate import evaluate
from yolo.evaluation.loader import evaluation_loader
from yolo.models.classes import with_classes
from yolo.models.initialize import initialize, transfer
from yolo.models.load import load_model
from yolo.network import Network
from yolo.training.settings import Settings
from yolo.training.trainer import Options, Trainer

STEPS = 100
PLAIN = {"hue": 0, "saturation": 1, "exposure": 1, "flip": 0, "width": 224, "height": 224}


def eight_hands(shared: Path, folder: Path) -> Data:
    hands = shared / "data" / "hands"
    paths = [hands / path for path in (hands / "train.txt").read_text().split()]
    seen = [path for path in paths if large_enough(read_labels(str(path), 1).boxes)]
    (folder / "eight.txt").write_text("".join(f"{path}\n" for path in seen[:8]))
    text = f"train=eight.txt\nvalid=eight.txt\nnames={hands / 'hands.names'}\n"
    (folder / "x.data").write_text(text)
    return sources.load(folder / "x.data")


def large_enough(boxes: np.ndarray) -> bool:
    """Whether the hands can be told at 224 pixels: large, and one an image."""
    return len(boxes) == 1 and boxes[:, 3:].min() > 0.1


def test_eight_images_of_hands_are_learnt_by_heart(shared, tmp_path):
    """mAP50 above 0.95 after 100 steps; a loss with a wrong sign or place never gets there."""
    data = eight_hands(shared, tmp_path)
    models = shared / "data" / "models"
    name = str(models / "yolo-fastest-1.1-coco")
    other, _ = load_model(f"{name}.cfg", f"{name}.weights")
    heads = {i: {"jitter": 0} for i in other.heads}
    drops = {i: {"probability": 0} for i, s in enumerate(other.cfg.layers) if s.type == "dropout"}
    cfg = with_classes(Cfg.load(f"{name}.cfg"), 1).edited({-1: PLAIN, **heads, **drops})
    network = Network(cfg)
    transfer(network, other)
    initialize(network)
    asked = Settings(batch=8, learning_rate=0.01, burn_in=10, policy="sgdr", momentum=0.9)
    trainer = Trainer(
        network,
        data,
        dataclasses.replace(asked, decay=0.0).over(STEPS),
        Options(STEPS, workers=0, cache=64, ema=0.9, channels_last=True),
    )
    for _ in trainer.run():
        pass
    evaluation = evaluate(trainer.ema.network, evaluation_loader(data, cfg, workers=0))
    assert evaluation.map > 0.95
