"""A network that finds objects in pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from yolo.datasets.images import WHOLE, Pixels
from yolo.datasets.resize import letterbox_darknet, resize_darknet
from yolo.detections import Detections, suppression
from yolo.inference.runner import Runner


class Detector:
    """Finds the objects of a picture with a confidence above `thresh`.

    `letterbox` keeps the proportions of the picture, None means as in [net]. Raises DarknetError
    for a network that gives no boxes.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        thresh: float = 0.25,
        nms_thresh: float | None = None,
        letterbox: bool | None = None,
    ) -> None:
        network = runner.network
        self.runner, self.network, self.thresh = runner, network, thresh
        self.nms = suppression(network, nms_thresh)
        self.letterbox = network.cfg.net.flag("letter_box") if letterbox is None else letterbox

    def __call__(self, picture: Pixels) -> Detections:
        """Picture uint8 (H, W, C), RGB or grey as the network needs → objects, by confidence."""
        shape = self.network.image
        if self.letterbox:
            pixels, placement = letterbox_darknet(picture, shape.width, shape.height)
        else:
            pixels, placement = resize_darknet(picture, shape.width, shape.height), WHOLE
        x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
        (detections,) = self.runner.detect(x, self.thresh, self.nms, [placement])
        return detections.surest().cpu()


def described(
    detections: Detections, names: Sequence[str], width: int, height: int
) -> list[dict[str, object]]:
    """The objects of a picture, for JSON.

    `relative` is a box's centre and size relative to the picture, `box` its upper left corner and
    size in pixels; neither is clipped to the picture.
    """
    rows = detections.boxes.tolist(), detections.classes.tolist(), detections.confidences.tolist()
    return [
        {
            "class": number,
            "name": names[number],
            "confidence": confidence,
            "box": {
                "left": (x - w / 2) * width,
                "top": (y - h / 2) * height,
                "width": w * width,
                "height": h * height,
            },
            "relative": {"x": x, "y": y, "width": w, "height": h},
        }
        for (x, y, w, h), number, confidence in zip(*rows, strict=True)
    ]
