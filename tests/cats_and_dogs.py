"""A detector, a classifier, and images of two classes for both."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from cfgs import conv, net, plain, yolo

from yolo.cfg import Cfg
from yolo.models.randomize import randomize
from yolo.models.weights import save_weights
from yolo.network import Network

BODY = net(32, 32) + conv(8, stride=4)
DETECTOR = BODY + plain(14) + yolo(2, "0,1", "8,8, 16,16")
CLASSIFIER = BODY + plain(2) + "[avgpool]\n[softmax]\n"


def model(text: str, stem: str) -> None:
    """Its .cfg and its .weights, in the folder where the test is."""
    Path(f"{stem}.cfg").write_text(text)
    network = Network(Cfg.load(f"{stem}.cfg"))
    randomize(network)
    save_weights(network, f"{stem}.weights")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A detector x, a classifier c, five images of two classes, x.data."""
    monkeypatch.chdir(tmp_path)
    model(DETECTOR, "x")
    model(CLASSIFIER, "c")
    generator = np.random.default_rng(0)
    for number in range(5):
        name = f"{('cat', 'dog')[number % 2]}{number}"
        cv2.imwrite(f"{name}.png", generator.integers(0, 255, (40, 60, 3)).astype(np.uint8))
        Path(f"{name}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.6\n")
    Path("valid.txt").write_text("".join(f"{p}\n" for p in sorted(tmp_path.glob("*.png"))))
    Path("x.names").write_text("cat\ndog\n")
    Path("x.data").write_text("classes=2\nvalid=valid.txt\ntrain=valid.txt\nnames=x.names\ntop=2\n")
    return tmp_path
