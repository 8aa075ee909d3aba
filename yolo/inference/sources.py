"""Sources of pictures: image files, folders, lists, videos and cameras."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo.datasets.lists import IMAGES, read_lines, resolve
from yolo.errors import DataError

VIDEOS = frozenset(
    (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv")
)


@dataclass(frozen=True)
class Source:
    """A picture or a video; a camera is an endless video whose path is its number."""

    path: str
    is_video: bool = False

    @property
    def is_camera(self) -> bool:
        return self.is_video and self.path.isdecimal()


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """All pictures and videos that files, folders, .txt lists and camera numbers stand for.

    Raises DataError for a list that can't be read and for a folder without any.
    """
    return [source for text in inputs for source in _of(text)]


def _of(text: str) -> list[Source]:
    if text.isdecimal() and not os.path.exists(text):
        return [Source(text, is_video=True)]
    if os.path.isdir(text):
        names = sorted(os.listdir(text))
        files = [os.path.join(text, n) for n in names if _kind(n) in IMAGES | VIDEOS]
        if not files:
            raise DataError(f"{text}: no pictures or videos in this folder")
        return [Source(path, _kind(path) in VIDEOS) for path in files]
    if _kind(text) == ".txt":
        lines = [line for _, line in read_lines(text, "list of pictures")]
        if not lines:
            raise DataError(f"{text}: no pictures in this list")
        paths = [resolve(line, [os.path.dirname(text) or "."]) or line for line in lines]
        return [Source(path, _kind(path) in VIDEOS) for path in paths]
    return [Source(text, _kind(text) in VIDEOS)]


def _kind(path: str) -> str:
    return Path(path).suffix.lower()
