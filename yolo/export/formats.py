"""The forms in which a network is exported, in one list."""

from __future__ import annotations

from dataclasses import dataclass

from yolo.registry import Entry, registry


@dataclass(frozen=True)
class Format(Entry):
    """`where` is (Network, Header, target) → the files and what writes them.

    The target, a path, ends with `suffix`; other files have names like it.
    """

    suffix: str = ".weights"


FORMATS = registry(
    Format(
        "darknet",
        "AlexeyAB's Darknet; [ssd], [l2norm], image_mean= and image_scale= become other sections, "
        "or what OUT's .json says how to compute",
        "yolo.export.darknet:writers",
    ),
    Format(
        "opencv",
        "OpenCV's DNN, likewise, and what stands behind a norm in files of its own",
        "yolo.export.opencv:writers",
    ),
)
