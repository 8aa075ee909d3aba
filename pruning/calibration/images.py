"""The images that calibrate a cut: of a folder, a list or a data set; labels aren't needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from yolo.datasets import sources
from yolo.datasets.data import Split
from yolo.datasets.images import Floats, Pixels, read_image
from yolo.datasets.resize import center_crop_darknet, letterbox_darknet, resize_darknet
from yolo.detections import gives_boxes
from yolo.errors import DataError
from yolo.inference.sources import find_sources
from yolo.network import Network

OwnPicture = tuple[str, Callable[[], Pixels]]  # the name of an image, and what reads it (H, W, C)
DATA = (".data", ".yaml", ".yml")
HELD_OUT = 8  # every so many-th image is held out, to evaluate what the others gain


def calibration_images(path: str, network: Network, count: int) -> Tensor:
    """Up to `count` images, evenly spread over all that there are: (N, C, H, W) in [0, 1]

    `path` is a folder, a .txt list or an image, or a .data or .yaml file, of which it takes images
    to train on; they are prepared as for an evaluation. Raises DataError.
    """
    pictures = own_pictures(path, "train", network.image.channels, count)
    prepared = [_prepared(read(), network) for _, read in pictures]
    return torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).contiguous()


def own_pictures(path: str, part: Split, channels: int, count: int) -> list[OwnPicture]:
    """Up to `count` images, evenly spread over all; they are read later, and may fail then.

    `path` is as for calibration_images; of a data set they are those of `part`. Raises DataError.
    """
    if path.endswith(DATA):
        items = sources.items(sources.load(path), part)
        read = items.reader(channels)
        return [(items.names[i], partial(read, i)) for i in _spread(len(items), count)]
    paths = [source.path for source in find_sources([path]) if not source.is_video]
    if not paths:
        raise DataError(f"{path}: no pictures there")
    return [(paths[i], partial(read_image, paths[i], channels)) for i in _spread(len(paths), count)]


def split(images: Tensor) -> tuple[Tensor, Tensor]:
    """Images to calibrate with, and images held out; all are both where there are too few."""
    held_out = torch.arange(len(images)) % HELD_OUT == HELD_OUT - 1
    return (images[~held_out], images[held_out]) if held_out.any() else (images, images)


def _spread(total: int, count: int) -> list[int]:
    return sorted({round(i) for i in np.linspace(0, total - 1, min(count, total))})


def _prepared(picture: Pixels, network: Network) -> Floats:
    width, height = network.image.width, network.image.height
    if not gives_boxes(network):
        return center_crop_darknet(picture, width, height)
    if network.cfg.net.flag("letter_box"):
        return letterbox_darknet(picture, width, height)[0]
    return resize_darknet(picture, width, height)
