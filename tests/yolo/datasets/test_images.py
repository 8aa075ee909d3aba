"""Decoding and Darknet's resizing; the oracles: its formulas in plain loops, and its library."""

import ctypes
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from darknet_library import ALEXEY_LIB, CImage, with_library
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yolo.datasets.images import letterbox_placement, read_image
from yolo.datasets.resize import center_crop_darknet, letterbox_darknet, resize_darknet
from yolo.errors import DataError

Floats = NDArray[np.float32]
SIZES = [(50, 37, 32, 32), (13, 20, 64, 48), (32, 9, 32, 17), (1, 5, 8, 8), (6, 1, 8, 8)]
shapes = pytest.mark.parametrize(("width", "height", "new_width", "new_height"), SIZES)


def random_image(width: int, height: int, channels: int = 3) -> NDArray[np.uint8]:
    generator = np.random.default_rng(width * 100 + height)
    return generator.integers(0, 256, (height, width, channels), np.uint8)


def resized(image: NDArray[np.uint8], new_width: int, new_height: int) -> Floats:
    """resize_image of image.c, pixel by pixel"""
    pixels = image.astype(np.float32) / np.float32(255)
    height, width = image.shape[:2]
    if (width, height) == (new_width, new_height):
        return pixels
    part = np.zeros((height, new_width, image.shape[2]), np.float32)
    out = np.zeros((new_height, new_width, image.shape[2]), np.float32)
    scale_x = np.float32(width - 1) / np.float32(new_width - 1)
    scale_y = np.float32(height - 1) / np.float32(new_height - 1)
    for column in range(new_width):
        if column == new_width - 1 or width == 1:
            part[:, column] = pixels[:, width - 1]
        else:
            x = np.float32(column) * scale_x
            share = x - np.float32(int(x))
            part[:, column] = (1 - share) * pixels[:, int(x)] + share * pixels[:, int(x) + 1]
    for row in range(new_height):
        y = np.float32(row) * scale_y
        share = y - np.float32(int(y))
        out[row] = (1 - share) * part[int(y)]
        if row < new_height - 1 and height > 1:
            out[row] += share * part[int(y) + 1]
    return out


@shapes
@pytest.mark.parametrize("channels", [1, 3])
def test_resize(width: int, height: int, new_width: int, new_height: int, channels: int) -> None:
    image = random_image(width, height, channels)
    out = resize_darknet(image, new_width, new_height)
    assert out.dtype == np.float32
    assert out == pytest.approx(resized(image, new_width, new_height), abs=1e-6)


@settings(max_examples=40)
@given(*[st.integers(2, 150)] * 2, st.integers(2, 60), st.integers(2, 60))
def test_resize_of_any_size(width: int, height: int, new_width: int, new_height: int) -> None:
    image = random_image(width, height, 1)
    out = resize_darknet(image, new_width, new_height)
    assert np.abs(out - resized(image, new_width, new_height)).max() < 1e-6


@pytest.mark.parametrize(("width", "height", "new_width", "new_height"), SIZES[:3])
def test_letterbox(width: int, height: int, new_width: int, new_height: int) -> None:
    image = random_image(width, height)
    out, placement = letterbox_darknet(image, new_width, new_height)
    if new_width / width < new_height / height:
        inner = (new_width, height * new_width // width)
    else:
        inner = (width * new_height // height, new_height)
    x, y = (new_width - inner[0]) // 2, (new_height - inner[1]) // 2
    expected = np.full_like(out, 0.5)
    expected[y : y + inner[1], x : x + inner[0]] = resized(image, *inner)
    assert out == pytest.approx(expected, abs=1e-6)
    assert placement == letterbox_placement(width, height, new_width, new_height)
    corner = np.array(placement[:2]) * (new_width, new_height)
    assert np.abs(corner - (x, y)).max() <= 0.5
    assert placement[2:] == (inner[0] / new_width, inner[1] / new_height)


@shapes
def test_center_crop(width: int, height: int, new_width: int, new_height: int) -> None:
    """validate_classifier_single of classifier.c: resize_min, crop_image"""
    image = random_image(width, height)
    if width < height:
        inner = resized(image, new_width, height * new_width // width)
    else:
        inner = resized(image, width * new_width // height, new_width)
    x = int((inner.shape[1] - new_width) / 2)
    y = int((inner.shape[0] - new_height) / 2)
    out = center_crop_darknet(image, new_width, new_height)
    assert out.shape == (new_height, new_width, 3)
    for row in range(new_height):
        for column in range(new_width):
            at = (
                min(max(row + y, 0), inner.shape[0] - 1),
                min(max(column + x, 0), inner.shape[1] - 1),
            )
            assert out[row, column] == pytest.approx(inner[at], abs=1e-6)


def in_library(function: str, image: NDArray[np.uint8], *numbers: int) -> Floats:
    call = getattr(ctypes.CDLL(ALEXEY_LIB), function)
    call.restype = CImage
    planes = np.ascontiguousarray(image.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    pointer = planes.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    out = call(CImage(image.shape[1], image.shape[0], image.shape[2], pointer), *numbers)
    values = np.ctypeslib.as_array(out.data, (out.c, out.h, out.w))
    return values.transpose(1, 2, 0).copy()


@with_library
@pytest.mark.parametrize("size", [(320, 320), (416, 256), (500, 375), (90, 700), (37, 59)])
def test_the_library_resizes_alike(size: tuple[int, int]) -> None:
    image = random_image(500, 375)
    assert (
        np.abs(resize_darknet(image, *size) - in_library("resize_image", image, *size)).max() < 1e-6
    )
    boxed, _ = letterbox_darknet(image, *size)
    assert np.abs(boxed - in_library("letterbox_image", image, *size)).max() < 1e-6


def test_colours_and_grey(tmp_path: Path) -> None:
    image = random_image(9, 5)
    cv2.imwrite(str(tmp_path / "x.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert np.array_equal(read_image(str(tmp_path / "x.png")), image)
    grey = read_image(str(tmp_path / "x.png"), 1)
    assert grey.shape == (5, 9, 1)
    assert grey[..., 0] == pytest.approx(image @ [0.299, 0.587, 0.114], abs=1)
    with pytest.raises(DataError, match="1 or 3 channels, not 4"):
        read_image(str(tmp_path / "x.png"), 4)


def jpeg(width: int = 40, height: int = 24) -> bytes:
    return cv2.imencode(".jpg", cv2.GaussianBlur(random_image(width, height), (9, 9), 0))[
        1
    ].tobytes()


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    """Labels are made for the pixels as they are stored, and so does Darknet read them"""
    plain = jpeg()
    exif = b"Exif\0\0" + struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, 6, 0, 0)
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    (tmp_path / "turned.jpg").write_bytes(turned)
    assert cv2.imread(str(tmp_path / "turned.jpg")).shape == (40, 24, 3)
    assert read_image(str(tmp_path / "turned.jpg")).shape == (24, 40, 3)


BAD = {
    "missing": (None, "can't read the image: No such file"),
    "empty": (b"", "the image file is empty"),
    "text": (b"not an image", "not an image that OpenCV can decode"),
    "header only": (jpeg()[:20] + b"\xff\xd9", "not an image that OpenCV can decode"),
    "cut off": (jpeg()[:-100], "the JPEG is cut off"),
    "no pixels": (b"P6 0 0 255\n", "not an image that OpenCV can decode|can't decode"),
    "far too large": (b"P6 99999 99999 255\n", "can't decode the image|not an image"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_bad_images(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"x.jpg: .*({message})"):
        read_image(str(path))


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="can't read the image: Is a directory"):
        read_image(str(tmp_path))
