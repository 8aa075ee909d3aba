"""The outputs of an ONNX graph: the heads' inputs, decoded boxes or ready detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from yolo.boxes import iou
from yolo.detections import box_classes, detecting_heads, suppression
from yolo.export.options import LAYOUTS
from yolo.heads.common.base import BoxHead
from yolo.layers.convolutional import Convolutional
from yolo.network import Network
from yolo.nms import Nms

MOST = 300  # boxes of an image that enter NMS by DIoU


class GraphOutputs(nn.Module):
    """A network with the outputs of an ONNX file; `names` are theirs."""

    names: tuple[str, ...]
    counted: tuple[str, ...] = ()  # outputs whose number of rows depends on the image

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, C, H, W) in [0, 1] → the outputs"""
        raise NotImplementedError


class Raw(GraphOutputs):
    """The inputs of the heads (N, C, H, W), or `sections`: conv_81 is the output of section 81."""

    def __init__(self, network: Network, sections: Sequence[int] | None = None) -> None:
        super().__init__(network)
        self.sections = tuple(network.head_inputs if sections is None else sections)
        self.names = tuple(_raw_name(network, i) for i in self.sections)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """See GraphOutputs."""
        outputs = self.network(x, self.sections)
        return tuple(outputs[i] for i in self.sections)


class Scores(GraphOutputs):
    """The class probabilities of a classifier (N, classes), or what the last section gives."""

    names = ("scores",)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.network(x)[self.network.heads[-1]].flatten(1),)


class Decoded(GraphOutputs):
    """The boxes of all heads, in one of the LAYOUTS."""

    def __init__(self, network: Network, layout: str) -> None:
        super().__init__(network)
        self.layout = LAYOUTS[layout].load()()
        self.names = self.layout.names

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.layout.write(self.network, decoded(self.network, x)))


class ReadyDetections(GraphOutputs):
    """`detections` (M, 7): image, class, confidence, centre x, y, width, height.

    Those of the batch with a confidence above `thresh` that NMS leaves; boxes are relative to the
    input. ONNX's NonMaxSuppression knows IoU only; where a head wants DIoU, other operators do its
    work on the MOST boxes with the highest scores. Raises CfgError for a limit of detections in an
    image with batches.
    """

    names = counted = ("detections",)

    def __init__(self, network: Network, thresh: float, batch: int | None) -> None:
        super().__init__(network)
        self.thresh, self.nms = thresh, suppression(network)
        if self.nms.per_image and batch != 1:
            raise detecting_heads(network)[-1].section.error(
                "keep_top_k is for one image: use --batch 1", "keep_top_k"
            )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        heads = detecting_heads(self.network)
        parts = decoded(self.network, x)
        boxes = torch.cat([part[..., :4] for part in parts], 1)
        confidences = [
            h.confidences(part, self.thresh) for h, part in zip(heads, parts, strict=True)
        ]
        scores = torch.cat(confidences, 1)
        if self.nms.per_class:
            scores = _best(scores, min(self.nms.per_class, scores.shape[1]))
        return (_suppressed(boxes, scores, self.nms),)


def decoded(network: Network, x: Tensor) -> list[Tensor]:
    """The decoded boxes (N, boxes, 5 + classes) of every head."""
    outputs = network(x)
    return [head.decode(outputs[head.section.index]) for head in detecting_heads(network)]


def check_boxes(network: Network) -> None:
    """Raises CfgError for heads some of which give no boxes, or boxes of other classes."""
    box_classes(network)
    for i in network.heads:
        layer = network.layers[i]
        if not isinstance(layer, BoxHead):
            raise layer.section.error("gives no boxes, others do: use --boxes raw")


def _raw_name(network: Network, index: int) -> str:
    layer = network.layers[index]
    return f"{'conv' if isinstance(layer, Convolutional) else layer.section.name}_{index}"


def _best(scores: Tensor, count: int) -> Tensor:
    """Scores (N, boxes, classes) with 0 for all but the `count` highest of every class."""
    least = scores.topk(count, 1).values[:, count - 1 :]
    return torch.where(scores >= least, scores, torch.zeros_like(scores))


def _suppressed(boxes: Tensor, scores: Tensor, nms: Nms) -> Tensor:
    """Rows of ReadyDetections from boxes (N, boxes, 4) and scores (N, boxes, classes)."""
    if nms.exponent is not None:
        boxes, scores = _surest(boxes, scores)
        scores = scores * _kept(_overlaps(boxes, nms), scores)
        image, box, kind = scores.nonzero().unbind(1)
    else:
        chosen = _NonMaxSuppression.apply(boxes, scores.transpose(1, 2), nms.thresh)
        image, kind, box = chosen.unbind(1)
    count, classes = scores.shape[1:]
    at = image * count + box
    confidence = scores.reshape(-1).index_select(0, at * classes + kind)
    columns = torch.stack((image.to(boxes), kind.to(boxes), confidence), 1)
    rows = torch.cat((columns, boxes.reshape(-1, 4).index_select(0, at)), 1)
    if nms.per_image:
        rows = rows.index_select(0, confidence.argsort(descending=True)[: nms.per_image])
    return rows


def _surest(boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The MOST boxes of every image with the highest scores, in their order."""
    count = min(MOST, scores.shape[1])
    # sorted, so that equal scores are decided as in nms.py
    which = scores.amax(2).topk(count, 1).indices.sort(1).values[..., None]
    return boxes.gather(1, which.expand(-1, -1, 4)), scores.gather(
        1, which.expand(-1, -1, scores.shape[2])
    )


def _overlaps(boxes: Tensor, nms: Nms) -> Tensor:
    """1 where two boxes (N, K, 4) overlap too much, as in nms.py: (N, K, K, 1)."""
    rows, columns = boxes[:, :, None], boxes[:, None]
    near = iou(rows, columns) > nms.thresh
    assert nms.exponent is not None
    return (near & (iou(rows, columns, "diou", nms.exponent) > nms.thresh)).float()[..., None]


def _kept(overlap: Tensor, scores: Tensor) -> Tensor:
    """1 for the boxes that no better kept one of the same class overlaps: (N, K, classes)."""
    # from the scores, so that the graph computes it instead of holding a large constant
    number = (scores[:, :, :1] * 0 + 1).cumsum(1)
    first = (number[:, :, None] < number[:, None]).float()
    row, column = scores[:, :, None], scores[:, None]
    better = (row > column).float() + (row == column).float() * first
    return _corrected(overlap * better, (scores > 0).float())


@torch.jit.script_if_tracing
def _corrected(beats: Tensor, living: Tensor) -> Tensor:
    """The boxes (N, K, classes) that stay: every pass corrects one more of each chain.

    A loop of the graph, as the number of passes depends on the image.
    """
    stay = living
    changed = bool(living.sum() > 0)
    while changed:
        now = living * ((beats * stay[:, :, None]).amax(1) == 0).float()
        changed = bool((now - stay).abs().sum() > 0)
        stay = now
    return stay


class _NonMaxSuppression(torch.autograd.Function):
    """ONNX's operator; torch has none, so what it gives here only serves to trace the graph."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, thresh: float) -> Tensor:
        return torch.zeros(1, 3, dtype=torch.int64)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, thresh: float) -> Any:
        def constant(value: Tensor) -> Any:
            return g.op("Constant", value_t=value)

        limits = torch.tensor([2**31 - 1]), torch.tensor([thresh]), torch.tensor([0.0])
        return g.op(
            "NonMaxSuppression", boxes, scores, *map(constant, limits), center_point_box_i=1
        )
