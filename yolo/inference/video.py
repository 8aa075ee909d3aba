"""Videos and cameras in, videos out."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from yolo.datasets.images import Pixels
from yolo.errors import DarknetError, DataError
from yolo.inference.sources import Source

STANDARD_RATE = 25.0  # frames per second of a video without a rate
CODEC = "mp4v"


class Video:
    """The frames of a video file or a camera; raises DataError where there are none."""

    def __init__(self, source: Source, channels: int = 3) -> None:
        self.source, self.channels = source, channels
        self.capture = cv2.VideoCapture(int(source.path) if source.is_camera else source.path)
        if not self.capture.isOpened():
            raise self._error("can't be opened")

    @property
    def rate(self) -> float:
        """Frames per second."""
        rate = float(self.capture.get(cv2.CAP_PROP_FPS))
        return rate if 0 < rate < 1000 else STANDARD_RATE

    @property
    def count(self) -> int | None:
        """Number of frames according to the file; None for a camera, or where it is unknown."""
        count = int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT))
        return count if count > 0 and not self.source.is_camera else None

    def __iter__(self) -> Iterator[Pixels]:
        """Yield frames uint8 (H, W, C), RGB or grey."""
        code = cv2.COLOR_BGR2RGB if self.channels == 3 else cv2.COLOR_BGR2GRAY
        read, frame = self.capture.read()
        if not read:
            raise self._error("has no frame that can be read")
        while read:
            converted = np.asarray(cv2.cvtColor(frame, code), np.uint8)
            yield converted.reshape(*converted.shape[:2], -1)
            read, frame = self.capture.read()
        self.capture.release()

    def _error(self, what: str) -> DataError:
        kind = "camera " if self.source.is_camera else ""
        return DataError(f"{kind}{self.source.path}: {what}")


class VideoFile:
    """Writes an .mp4 that appears complete when the with block ends without an error."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self.writer: cv2.VideoWriter | None = None

    def __enter__(self) -> VideoFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, self.temporary = tempfile.mkstemp(
                self.path.suffix, f".{self.path.stem}.", self.path.parent
            )
        except OSError as error:
            raise DarknetError(f"{self.path}: can't write: {error.strerror}") from error
        os.close(descriptor)
        return self

    def write(self, frame: Pixels) -> None:
        """Write a frame uint8 (H, W, 3) RGB; all frames must have one size."""
        if self.writer is None:
            height, width = frame.shape[:2]
            code = cv2.VideoWriter.fourcc(*CODEC)
            self.writer = cv2.VideoWriter(self.temporary, code, self.rate, (width, height))
            if not self.writer.isOpened():
                raise DarknetError(f"{self.path}: OpenCV can't write this video")
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if self.writer is not None:
            self.writer.release()
        if kind is None and self.writer is not None:
            os.chmod(self.temporary, 0o644)
            os.replace(self.temporary, self.path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.temporary)
