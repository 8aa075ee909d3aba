"""Boxes and class names on a picture."""

from __future__ import annotations

import colorsys
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np

from yolo.datasets.images import Pixels
from yolo.detections import Detections

Rgb = tuple[int, int, int]
FONT = cv2.FONT_HERSHEY_DUPLEX
GOLDEN = 0.618034  # of a full circle: neighbouring classes get very different hues
LEAST_TEXT, TEXT = 10, 1 / 35  # least height of text in pixels; height over the longer side
LINE = 1 / 300  # width of lines over the longer side


def draw(image: Pixels, detections: Detections, names: Sequence[str], text: float = TEXT) -> Pixels:
    """A copy with a frame around every box, the most confident on top, and its class above it.

    Lines and text grow with the picture; `text` is the height of text over its longer side.
    """
    picture = np.ascontiguousarray(image).copy()
    line = max(1, round(max(image.shape[:2]) * LINE))
    labels = []
    for index in detections.confidences.argsort().tolist():
        number, confidence = int(detections.classes[index]), float(detections.confidences[index])
        left, top, right, bottom = corners(detections.boxes[index].tolist(), image.shape)
        cv2.rectangle(picture, (left, top), (right, bottom), color(number), line)
        labels.append((f"{plain(names[number])} {confidence:.2f}", (left, top), color(number)))
    size = max(LEAST_TEXT, round(max(image.shape[:2]) * text))
    for label, corner, background in labels:  # last, so that no frame crosses a text
        _label(picture, label, corner, background, size)
    return picture


def corners(box: Sequence[float], shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Relative centre x, y, w, h → left, top, right, bottom in pixels, inside the picture."""
    height, width = shape[:2]
    x, y, w, h = box
    edges = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * ([width, height] * 2)
    edges = np.nan_to_num(edges).clip(0, [width - 1, height - 1] * 2)
    left, top, right, bottom = (int(edge) for edge in edges.round())
    return left, top, right, bottom


def color(number: int) -> Rgb:
    """The RGB color of a class."""
    lightness = (0.42, 0.55, 0.3)[number % 3]
    r, g, b = colorsys.hls_to_rgb(number * GOLDEN % 1, lightness, 0.85)
    return round(r * 255), round(g * 255), round(b * 255)


def plain(text: str) -> str:
    """The text in ASCII, for OpenCV's fonts: without accents, ? for other characters."""
    base = unicodedata.normalize("NFKD", text)
    kept = "".join(c for c in base if not unicodedata.combining(c))
    return kept.encode("ascii", "replace").decode()


def _label(picture: Pixels, text: str, corner: tuple[int, int], background: Rgb, size: int) -> None:
    """Draw text of this height on a filled box above a corner, or below it at the upper edge."""
    height, width = picture.shape[:2]
    thickness = max(1, size // 14)
    scale = cv2.getFontScaleFromHeight(FONT, round(size * 0.7), thickness)
    (text_width, _), _ = cv2.getTextSize(text, FONT, scale, thickness)
    margin = max(1, size // 5)
    left = max(0, min(corner[0], width - text_width - 2 * margin))
    top = corner[1] - size if corner[1] >= size else min(corner[1], height - size)
    right, bottom = left + text_width + 2 * margin, top + size
    cv2.rectangle(picture, (left, top), (right, bottom), background, cv2.FILLED)
    ink = (0, 0, 0) if _is_light(background) else (255, 255, 255)
    origin = left + margin, bottom - round(size * 0.22)
    cv2.putText(picture, text, origin, FONT, scale, ink, thickness, cv2.LINE_AA)


def _is_light(background: Rgb) -> bool:
    r, g, b = background
    return 0.299 * r + 0.587 * g + 0.114 * b > 140
