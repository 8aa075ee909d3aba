"""The converters of tools/convert.py, each in a file; those of data sets share one."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from yolo.registry import Entry, registry


@dataclass(frozen=True)
class Converter:
    """`add_options` takes the parser of its command, `run` what that parsed."""

    add_options: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], int]


CONVERTERS = registry(
    Entry(
        "anchors",
        "Fit anchors to the boxes of a data set's training images.",
        f"{__name__}.anchors:CONVERTER",
    ),
    Entry(
        "classes",
        "Write a cfg for the classes of another data set: classes=, and filters= before heads.",
        f"{__name__}.classes:CONVERTER",
    ),
    Entry(
        "bayesian",
        "Write a cfg whose convolutional and connected sections are Bayesian.",
        f"{__name__}.bayesian:CONVERTER",
    ),
    Entry(
        "ssd-torch",
        "Make .weights of a PyTorch state dict of SSD300 on VGG-16, or of VGG-16 alone.",
        f"{__name__}.ssd_torch:CONVERTER",
    ),
)
