"""How far a cut network's heads are from the original's: a metric that needs no labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from pruning.measure.progress import Progress
from yolo.models.randomize import smooth_noise
from yolo.network import Network

ERROR = "head error"  # the one metric of which less is better
NOISE_IMAGES = 8
BATCH = 2**21  # numbers of a batch of images


def batches(images: Tensor) -> Sequence[Tensor]:
    """Images (N, C, H, W) in parts that fit into memory, at least eight where there are as many."""
    most = max(1, min(BATCH // images[0].numel(), len(images) // 8))
    return images.split(most)


@torch.no_grad()
def head_error(
    original: Network, compact: Network, images: Tensor, index_map: Mapping[int, int] | None = None
) -> float:
    """Mean relative L2 of all tensors that enter the heads, each relative to its own size.

    `index_map`: the compact network's section for each of the original's, where they differ.
    """
    heads = original.head_inputs
    sections = [index_map[i] for i in heads] if index_map else heads
    pairs = (
        (entering(original, batch, heads), entering(compact, batch, sections))
        for batch in batches(images)
    )
    return mean_error(pairs, len(heads))


@torch.no_grad()
def entering(network: Network, batch: Tensor, heads: Sequence[int]) -> list[Tensor]:
    """The outputs of these sections for a batch (N, C, H, W) of images in [0, 1]."""
    outputs = network(batch, collect=heads)
    return [outputs[i] for i in heads]


def mean_error(pairs: Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]], heads: int) -> float:
    """Relative L2 of each head's tensors over all batches, the mean of them.

    `pairs` are what was expected and what was found, batch by batch, each a tensor a head.
    """
    errors, sizes = torch.zeros(heads).double(), torch.zeros(heads).double()
    for expected, actual in pairs:
        for number, (target, output) in enumerate(zip(expected, actual, strict=True)):
            errors[number] += (output - target).double().square().sum()
            sizes[number] += target.double().square().sum()
    return float((errors / sizes.clamp(min=1e-30)).sqrt().mean())


class HeadError:
    """A Metric: head_error of networks that are cut from an original, which runs only once."""

    def __init__(self, original: Network, images: Tensor | None = None) -> None:
        """Images are (N, C, H, W) in [0, 1]; None stands for noise."""
        if images is None:
            generator = torch.Generator().manual_seed(0)
            images = smooth_noise(original.image, NOISE_IMAGES, generator)
        self._original, self._images = original, images

    def scored(self, network: Network, progress: Progress) -> tuple[str, float]:
        progress("comparing what enters the heads")
        heads = self._original.head_inputs
        images = zip(batches(self._images), self._expected, strict=True)
        pairs = ((expected, entering(network, batch, heads)) for batch, expected in images)
        return ERROR, mean_error(pairs, len(heads))

    @cached_property
    def _expected(self) -> list[list[Tensor]]:
        """The inputs of the original's heads, batch by batch."""
        original = self._original
        return [entering(original, batch, original.head_inputs) for batch in batches(self._images)]
