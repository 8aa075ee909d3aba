"""A real detector on a real picture: what it sees before and after a cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from trained_models import trained_model

from pruning.proof.verify import Proofs
from pruning.run.prune import prune
from pruning.session import Inputs
from pruning.spec import Percent, Spec
from yolo.cfg import Cfg
from yolo.models.load import load_model
from yolo.models.randomize import noise_image
from yolo.models.weights import load_weights
from yolo.network import Network

NAME = "yolo-fastest-1.1-coco"
DATA = Path("/usr/share/darknet/data")  # of Debian's package darknet
SEEN = {"dog", "bicycle", "car"}
CONFIDENCE, OVERLAP = 0.3, 0.45

Box = tuple[float, float, float, float]  # left, top, width, height in pixels


@pytest.fixture(scope="module")
def model() -> tuple[str, str]:
    path, weights = trained_model(NAME)
    return str(path), str(weights)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """dog.jpg: (height, width, 3), blue first"""
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    if not (DATA / "dog.jpg").is_file():
        pytest.skip("Debian's package darknet with its dog.jpg is not installed")
    return cv2.imread(str(DATA / "dog.jpg"))


@pytest.fixture(scope="module")
def names(picture: np.ndarray) -> list[str]:
    return (DATA / "coco.names").read_text().split("\n")


@torch.no_grad()
def detect(network: Network, picture: np.ndarray) -> list[tuple[int, float, Box]]:
    """Class, confidence and box of all that is found, the most confident first."""
    import cv2

    height, width = picture.shape[:2]
    shape = network.image
    x = cv2.dnn.blobFromImage(picture, 1 / 255, (shape.width, shape.height), swapRB=True)
    outputs = network(torch.from_numpy(x))
    rows = torch.cat([network.layers[i].decode(out) for i, out in outputs.items()], 1)[0].numpy()
    scale = np.array((width, height, width, height))
    boxes = np.hstack((rows[:, :2] - rows[:, 2:4] / 2, rows[:, 2:4])) * scale
    scores = rows[:, 4:5] * rows[:, 5:]
    kinds, best = scores.argmax(1), scores.max(1)
    kept = cv2.dnn.NMSBoxesBatched(boxes, best, kinds, CONFIDENCE, OVERLAP)
    return [(int(kinds[k]), float(best[k]), tuple(boxes[k].tolist())) for k in kept]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    sides = [max(0.0, min(a[i] + a[i + 2], b[i] + b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    inside = sides[0] * sides[1]
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


def test_it_sees_the_dog(model: tuple[str, str], picture: np.ndarray, names: list[str]) -> None:
    detections = detect(load_model(*model)[0], picture)
    assert [names.index(name) for name in ("dog", "bicycle", "car")] == [16, 1, 2]
    assert {names[kind] for kind, _, _ in detections} & SEEN == SEEN
    # where Darknet's own yolov3 draws its boxes on this picture
    expected = {"dog": (128, 225, 185, 318), "car": (467, 76, 227, 96)}
    for name, frame in expected.items():
        box = next(box for kind, _, box in detections if names[kind] == name)
        assert overlap(box, frame) > 0.6, (name, box)


@pytest.mark.parametrize("percent", [0.0, 0.02, 0.05])
def test_the_smaller_model_sees(
    model: tuple[str, str],
    picture: np.ndarray,
    percent: float,
    tmp_path: Path,
) -> None:
    """From the written files; with nothing cut it is the same to the last bit."""
    result = prune(Inputs(*model), Spec("normal", Percent(percent)), Proofs(("torch",)), runs=0)
    files = result.write(tmp_path, "x")
    smaller = Network(Cfg.load(files["cfg"]))
    load_weights(smaller, files["weights"])
    before, after = detect(load_model(*model)[0], picture), detect(smaller, picture)
    if percent == 0:
        assert after == before
    else:
        assert result.report.after.cost.channels < result.report.before.cost.channels
        assert all(CONFIDENCE <= score <= 1 for _, score, _ in after)
        with torch.no_grad():
            outputs = smaller(noise_image(smaller)).values()
        assert all(bool(out.isfinite().all()) for out in outputs)
