"""Images as arrays: decoding them, and their position in the input of a network."""

import cv2
import numpy as np
from numpy.typing import NDArray

from yolo.errors import DataError

Pixels = NDArray[np.uint8]  # (H, W, C), RGB or grey
Floats = NDArray[np.float32]  # (H, W, C) in [0, 1]
# x, y of the corner and width, height, relative to the network's input
Placement = tuple[float, float, float, float]
WHOLE: Placement = (0.0, 0.0, 1.0, 1.0)
ROWS = 100_000  # of one PNG; decoders have limits
JPEG, END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"


def read_image(path: str, channels: int = 3) -> Pixels:
    """(H, W, C) RGB, or grey for channels=1; EXIF orientation is ignored, as labels expect.

    Raises DataError for what isn't a complete image.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: can't read the image: {reason}") from error
    return decode(content, path, channels)


def decode(content: bytes, name: str, channels: int = 3) -> Pixels:
    """The image in the bytes of a file, as read_image returns it."""
    if channels not in (1, 3):
        raise DataError(f"{name}: images are read with 1 or 3 channels, not {channels}")
    _check_whole(content, name)
    flag = cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE
    pixels = np.frombuffer(content, np.uint8)
    try:
        image = cv2.imdecode(pixels, flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DataError(f"{name}: can't decode the image: {error.err}") from error
    if image is None:
        raise DataError(f"{name}: not an image that OpenCV can decode")
    if channels == 1:
        return np.asarray(image[:, :, None], np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def letterbox_placement(image_width: int, image_height: int, width: int, height: int) -> Placement:
    """Position of an image in a letterbox of `width` × `height`, as Darknet maps boxes back.

    As in correct_yolo_boxes of yolo_layer.c, the offset is not rounded, though that of the pixels
    is.
    """
    new_width, new_height = inner_size(image_width, image_height, width, height)
    x, y = (width - new_width) / 2 / width, (height - new_height) / 2 / height
    return x, y, new_width / width, new_height / height


def inner_size(image_width: int, image_height: int, width: int, height: int) -> tuple[int, int]:
    """Width and height of an image in a letterbox of `width` × `height`.

    letterbox_image of image.c compares in float32 and divides integers.
    """
    ratio_w = np.float32(width) / np.float32(image_width)
    if ratio_w < np.float32(height) / np.float32(image_height):
        return width, max(1, image_height * width // image_width)
    return max(1, image_width * height // image_height), height


def in_channels(images: Pixels, channels: int) -> Pixels:
    """(N, H, W, C) → (N, H, W, channels), converted as read_image converts PNG files."""
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, 3)
    count, height, width = images.shape[:3]
    # only the decoder knows its weights of the colours; thousands of images become one tall PNG
    step = max(1, ROWS // height)
    parts = [images[start : start + step] for start in range(0, count, step)]
    return np.concatenate([_grey(part.reshape(-1, width, 3)) for part in parts]).reshape(
        count, height, width, 1
    )


def as_pixels(image: object) -> Pixels:
    """An image from OpenCV as (H, W, C): OpenCV drops an axis of one channel."""
    array = np.asarray(image, np.uint8)
    return array if array.ndim == 3 else array[:, :, None]


def _grey(image: Pixels) -> Pixels:
    options = (cv2.IMWRITE_PNG_COMPRESSION, 0)
    _, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return decode(content.tobytes(), "PNG", channels=1)


def _check_whole(content: bytes, name: str) -> None:
    if not content:
        raise DataError(f"{name}: the image file is empty")
    # OpenCV silently fills the missing part of a cut-off JPEG with grey
    if content.startswith(JPEG) and END_OF_JPEG not in content[-65536:]:
        raise DataError(f"{name}: the JPEG is cut off")
