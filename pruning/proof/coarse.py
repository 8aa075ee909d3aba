"""How much an exported file in float16 differs from its model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pruning.proof.verify import relative
from yolo.detections import gives_boxes
from yolo.export.options import HALF, LAYOUTS, RAW, OnnxOptions
from yolo.network import Network

COARSE = {HALF: 1e-2}  # limits: of scores, or of raw outputs as relative L2

Arrays = Mapping[str, Tensor]


def coarse_difference(
    network: Network, options: OnnxOptions, actual: Arrays, expected: Arrays
) -> float:
    """The largest difference of a score of boxes; relative L2 of outputs that are no boxes."""
    if options.boxes == RAW or not gives_boxes(network):
        return relative(dict(enumerate(actual.values())), dict(enumerate(expected.values())))
    layout = LAYOUTS[options.layout].load()()
    apart = (layout.scores(actual) - layout.scores(expected)).abs()
    return float(apart.nan_to_num(torch.inf).max())
