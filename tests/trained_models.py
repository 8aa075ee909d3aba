"""Trained models that lie beside the project, where they do."""

from pathlib import Path

import pytest
from paths import SHARED

NAMES = (
    "mobilenetv2-yolo-fastest-voc",
    "mobilenetv2-yolov3-nano-coco",
    "yolo-fastest-1.1-body",
    "yolo-fastest-1.1-coco",
    "yolo-lite-coco",
    "yolo-lite-voc",
    "yolo-lite-voc-nobn",
    "yoloface-50k",
)


def trained_model(name: str) -> tuple[Path, Path]:
    """The .cfg and the .weights of a model; the test is skipped without them."""
    cfg = SHARED / "data" / "models" / f"{name}.cfg"
    if not cfg.is_file():
        pytest.skip(f"{cfg.name} is not in shared/data/models")
    return cfg, cfg.with_suffix(".weights")
