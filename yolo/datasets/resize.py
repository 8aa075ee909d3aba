"""Images resized to a network's input exactly as Darknet does it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from yolo.datasets.images import Floats, Pixels, Placement, inner_size, letterbox_placement


def resize_darknet(image: Pixels, width: int, height: int) -> Floats:
    """uint8 (H, W, C) → float32 (height, width, C) in [0, 1]: resize_image of image.c.

    Bilinear with aligned corners: the source of column c is c·(W − 1)/(width − 1).
    """
    return _to_float(_stretch(image, width, height))


def letterbox_darknet(image: Pixels, width: int, height: int) -> tuple[Floats, Placement]:
    """The image on grey 0.5, its proportions kept, and its position: letterbox_image of image.c."""
    image_height, image_width = image.shape[:2]
    new_width, new_height = inner_size(image_width, image_height, width, height)
    boxed = np.full((height, width, image.shape[2]), 0.5, np.float32)
    x, y = (width - new_width) // 2, (height - new_height) // 2
    boxed[y : y + new_height, x : x + new_width] = resize_darknet(image, new_width, new_height)
    return boxed, letterbox_placement(image_width, image_height, width, height)


def center_crop_darknet(image: Pixels, width: int, height: int) -> Floats:
    """The middle of an image after its shorter side has become `width`.

    As in validate_classifier_single of classifier.c; edge pixels are repeated beyond the image.
    """
    new_width, new_height = _shorter_side(image, width)
    resized = resize_darknet(image, new_width, new_height)
    rows = _middle(new_height, height)
    columns = _middle(new_width, width)
    return resized[rows[:, None], columns[None]]


def is_kept_whole(image: Pixels, width: int, height: int) -> bool:
    """True where center_crop_darknet changes nothing."""
    size = (image.shape[1], image.shape[0])
    return size == (width, height) == _shorter_side(image, width)


def to_floats(pixels: Pixels) -> Floats:
    """uint8 → float32 in [0, 1]."""
    return _to_float(pixels.astype(np.float32))


def _shorter_side(image: Pixels, length: int) -> tuple[int, int]:
    """Width and height of an image whose shorter side gets this length."""
    height, width = image.shape[:2]
    if width < height:
        return length, height * length // width
    return width * length // height, length


def _stretch(image: Pixels, width: int, height: int) -> Floats:
    """Values in [0, 255]; torch's align_corners is the same formula in the same float32."""
    if image.shape[:2] == (height, width):
        return image.astype(np.float32)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    out = _bilinear(tensor, height, width)
    out[..., -1] = _bilinear(tensor[..., -1:], height, 1)[..., 0]
    out[..., -1, :] = _last_row(tensor, height, width)
    return out[0].permute(1, 2, 0).numpy()


def _last_row(tensor: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The last row as Darknet computes it: without the share of the row below.

    Where the row's position is rounded down, that share is nearly all: the row is black.
    """
    scale = np.float32(tensor.shape[2] - 1) / np.float32(max(1, height - 1))
    position = np.float32(height - 1) * scale
    above = min(int(position), tensor.shape[2] - 1)
    row = _bilinear(tensor[:, :, above : above + 1], 1, width)
    row[..., -1] = tensor[:, :, above : above + 1, -1]
    return row[:, :, 0] * float(1 - (position - np.float32(above)))


def _bilinear(tensor: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return interpolate(tensor, (height, width), mode="bilinear", align_corners=True)


def _to_float(values: Floats) -> Floats:
    return values * np.float32(1 / 255)


def _middle(size: int, wanted: int) -> NDArray[np.int64]:
    """`wanted` indices around the middle of `size`; division truncates as in C"""
    offset = int((size - wanted) / 2)
    return np.clip(np.arange(offset, offset + wanted), 0, size - 1)
