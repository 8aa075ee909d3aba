"""Small data sets of other forms, for the tests of tools/convert.py."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import cv2
import numpy as np

from yolo.datasets.labels import read_labels


def write_image(path: Path, width: int = 40, height: int = 20) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def write_voc(folder: Path, boxes: dict[str, list[tuple[str, str, str]]], extra: str = "") -> Path:
    """image → objects (name, difficult, "xmin ymin xmax ymax")"""
    (folder / "Annotations").mkdir(parents=True)
    for image, objects in boxes.items():
        write_image(folder / "JPEGImages" / f"{image}.jpg")
        text = "".join(
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
            + "".join(
                f"<{key}>{value}</{key}>"
                for key, value in zip(
                    ("xmin", "ymin", "xmax", "ymax"), corners.split(), strict=True
                )
            )
            + "</bndbox></object>"
            for name, difficult, corners in objects
        )
        (folder / "Annotations" / f"{image}.xml").write_text(
            f"{extra}<annotation>{text}</annotation>"
        )
    return folder


def write_sets(folder: Path, **sets: str) -> None:
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name, images in sets.items():
        text = "".join(f"{image}\n" for image in images.split())
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def labels(folder: Path, image: str, classes: int = 9) -> list[list[float]]:
    rows = read_labels(str(folder / "images" / image), classes, clip=False).boxes
    return np.asarray(rows, np.float64).round(6).tolist()


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
