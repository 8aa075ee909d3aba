"""What is gained by making up for a cut, on images that didn't take part in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.calibration.images import batches, split
from pruning.calibration.reconstruct import reconstruct
from pruning.cut.folding import Fold
from pruning.cut.shortened import Shorter
from pruning.graph.channels import ChannelGraph
from yolo.network import Network


@dataclass(frozen=True)
class Recovery:
    """By how much the heads' inputs differ from the whole network's, before and after.

    Errors are relative L2 over `witnesses` images, which calibrated nothing. Where there is no
    gain, nothing is changed: `kept` is False.
    """

    method: str
    images: int
    witnesses: int
    before: float
    after: float
    seconds: float

    @property
    def kept(self) -> bool:
        return self.after < self.before

    def __str__(self) -> str:
        change = f"{self.before:.3f} to {self.after:.3f}"
        found = "" if self.kept else "; not better, so the fold stays"
        return (
            f"{self.method}: {self.images} images, {self.seconds:.0f} s; error of what enters the "
            f"heads, on {self.witnesses} other images: {change}{found}"
        )

    def to_json(self) -> dict[str, object]:
        return {**vars(self), "kept": self.kept}


def recover(
    method: str,
    graph: ChannelGraph,
    fold: Fold,
    smaller: Network,
    images: Tensor,
    progress: Callable[[int], object] = lambda section: None,
    shorter: Shorter | None = None,
) -> tuple[Network, Recovery]:
    """The network that a fold makes, made up for, and what that gains.

    `method` is one of reconstruct.METHODS, images are (N, C, H, W) in [0, 1]. Where the graph's
    network is what is left without blocks, `shorter` names the whole one, which both are held
    against then.
    """
    shorter = shorter or Shorter.of(graph.network, ())
    known, judges = split(images)
    start = time.perf_counter()
    state = reconstruct(method, graph, fold, smaller, batches(known), progress, shorter)
    seconds = time.perf_counter() - start
    better = Network.with_state(smaller.cfg, state)
    before, after = (
        head_error(shorter.whole, net, judges, shorter.places) for net in (smaller, better)
    )
    found = Recovery(method, len(known), len(judges), before, after, seconds)
    return (better if found.kept else smaller), found


@torch.no_grad()
def head_error(
    whole: Network, smaller: Network, images: Tensor, places: Mapping[int, int] | None = None
) -> float:
    """Relative L2 of all that enters the heads, each tensor in shares of its own size: the mean."""
    heads = whole.head_inputs
    there = [places[i] for i in heads] if places else heads
    pairs = (
        (entering(whole, batch, heads), entering(smaller, batch, there))
        for batch in batches(images)
    )
    return mean_error(pairs, len(heads))


@torch.no_grad()
def entering(network: Network, batch: Tensor, heads: Sequence[int]) -> list[Tensor]:
    """What these sections give for a batch (N, C, H, W) of images in [0, 1]."""
    found = network(batch, collect=heads)
    return [found[i] for i in heads]


def mean_error(pairs: Iterable[tuple[Sequence[Tensor], Sequence[Tensor]]], heads: int) -> float:
    """Relative L2 of each head's tensors over all batches, the mean of them.

    `pairs` are what was expected and what was found, batch by batch, each a tensor a head.
    """
    errors, sizes = torch.zeros(heads).double(), torch.zeros(heads).double()
    for expected, found in pairs:
        for number, (wanted, given) in enumerate(zip(expected, found, strict=True)):
            errors[number] += (given - wanted).double().square().sum()
            sizes[number] += wanted.double().square().sum()
    return float((errors / sizes.clamp(min=1e-30)).sqrt().mean())
