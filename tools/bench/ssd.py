"""bench.py ssd: SSD300 against its convolutions alone; what its loss takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.timing import Rows, alternating, ms

if TYPE_CHECKING:
    from torch import Tensor

    from yolo.network import Network

CFG = Path(__file__).resolve().parents[2] / "cfg" / "ssd300-vgg16-voc.cfg"
BATCH, SHOWS = 32, 8  # images of the loss, and objects in each


def ssd_rows(folder: Path, repeat: int, steps: Callable[[str], None]) -> Rows:
    """Measured, bare, ratio and target of every figure."""
    import torch

    from yolo.cfg import Cfg
    from yolo.models.randomize import randomize
    from yolo.network import Network

    steps("making up weights")
    network = Network(Cfg.load(CFG))
    randomize(network)
    shape = network.image
    random = torch.Generator().manual_seed(0)
    images = torch.rand(1, shape.channels, shape.height, shape.width, generator=random)
    steps("detecting")
    ours, bare = alternating(repeat, _detecting(network, images), _bare(network))
    ratio = f"{ours / bare:.2f}", "1.15 of the convolutions alone"
    rows = [["forward, decode, NMS of all 8,732 boxes", ms(ours), ms(bare), *ratio]]
    steps("loss")
    with torch.no_grad():
        head = network.layers[-1]
        out = network(images)[head.section.index].repeat(BATCH, 1, 1, 1)
    rows.append(
        [f"loss and its gradient, {BATCH} images", ms(_loss(network, out, repeat)), *[""] * 3]
    )
    return rows


def _detecting(network: Network, images: Tensor) -> Callable[[], object]:
    import torch

    from yolo.detections import detect, suppression

    fused, nms = network.fused(), suppression(network)

    def run() -> None:
        with torch.inference_mode():
            detect(network, fused(images), 0.005, nms)

    return run


def _bare(network: Network) -> Callable[[], object]:
    """Every convolution on an input of its shape, and nothing between them."""
    import torch

    from yolo.layers.convolutional import Convolutional

    pairs = []
    for layer in network.layers:
        if isinstance(layer, Convolutional):
            shape = layer.inputs[0]
            x = torch.rand(1, shape.channels, shape.height, shape.width)
            conv = layer.conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            pairs.append((conv, x.contiguous(memory_format=torch.channels_last)))

    def run() -> None:
        with torch.inference_mode():
            for conv, x in pairs:
                conv(x)

    return run


def _loss(network: Network, out: Tensor, repeat: int) -> float:
    """Seconds of the loss of a batch, and of its gradient with respect to the head's output."""
    import torch

    from yolo.detections import detecting_heads
    from yolo.heads.common.loss import GroundTruth

    random = torch.Generator().manual_seed(0)
    boxes = torch.rand(BATCH * SHOWS, 6, generator=random) * 0.5 + 0.2
    boxes[:, 0], boxes[:, 1] = torch.arange(BATCH).repeat_interleave(SHOWS), 0
    targets = GroundTruth(boxes, torch.zeros(BATCH, 0))
    (head,) = detecting_heads(network)

    def run() -> None:
        x = out.clone().requires_grad_()
        head.loss(x, targets, BATCH).total.backward()

    return alternating(repeat, run)[0]
