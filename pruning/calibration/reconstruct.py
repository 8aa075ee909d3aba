"""Reconstruction: weights that give every section's original outputs back after a cut.

Section by section, in order, weights and bias become such that the outputs, computed from the
compact network's inputs, are nearly those of the original. Any images do; labels aren't needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.calibration.outputs import Outputs
from pruning.calibration.samples import seen_and_given
from pruning.cut.folding import Fold
from pruning.cut.shortened import Shortened
from pruning.graph.channels import ChannelGraph
from yolo.layers import Layer
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.network import Network, State

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance of what a section sees
MIDDLE = RIDGES[2]  # where there are too few images to choose
HELD_OUT = 4  # every so many-th batch chooses the best ridge
SAMPLES, PER_WEIGHT = (
    16384,
    4,
)  # positions: at least so many, and so many for each of an output's weights


@dataclass(frozen=True)
class Moments:
    """Sums over samples of what a section sees, x (G, S, n), and of what it should give (G, S, m).

    G are the section's groups, n the weights of an output, m the outputs of a group.
    """

    count: int
    x: Tensor  # (G, n)
    y: Tensor  # (G, m)
    xx: Tensor  # (G, n, n)
    xy: Tensor  # (G, n, m)
    yy: Tensor  # (G, m)

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> Moments:
        """In float64: differences of large sums follow."""
        wide_x, wide_y = x.double(), y.double()
        products = (x.mT @ x).double(), (x.mT @ y).double()
        return cls(x.shape[1], wide_x.sum(1), wide_y.sum(1), *products, wide_y.square().sum(1))

    def __add__(self, other: Moments) -> Moments:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Moments(*(a + b for a, b in pairs))

    def centred(self) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of products of deviations from the means: xx, xy, yy."""
        x, y = self.x / self.count, self.y / self.count
        return (
            self.xx - x[:, :, None] * self.x[:, None],
            self.xy - x[:, :, None] * self.y[:, None],
            self.yy - y * self.y,
        )

    def bias(self, weights: Tensor) -> Tensor:
        """The bias that the outputs of weights (G, n, m) need in the mean: (G, m)"""
        return (self.y - (self.x[:, None] @ weights)[:, 0]) / self.count


Method = Callable[[Moments, Moments | None, Tensor], Tensor]


def matched(train: Moments, held_out: Moments | None, first: Tensor) -> Tensor:
    """Each output's weights (G, n, m) times a number, so that its variance is what it was.

    With the bias that is what new BN statistics do.
    """
    xx, _, yy = (train + held_out if held_out else train).centred()
    variance = (first * (xx @ first)).sum(1)
    gain = (yy.clamp(min=0) / variance.clamp(min=1e-30)).sqrt()
    return first * torch.where(variance > 1e-12 * yy, gain, torch.ones_like(gain))[:, None]


def solved(train: Moments, held_out: Moments | None, first: Tensor) -> Tensor:
    """Weights (G, n, m) that give y from x with the least squared error, not far from `first`.

    He, Zhang and Sun: Channel Pruning for Accelerating Very Deep Neural Networks (ICCV 2017),
    equation 5, as ridge regression of what `first` leaves. Each output takes the ridge that does
    best on held out samples, or stays as it is where none does better; then all samples count.
    """
    if held_out is None:
        return _ridge(train, first, MIDDLE)
    tried = [first, *(_ridge(train, first, ridge) for ridge in RIDGES)]
    best = torch.stack([_error(held_out, train, weights) for weights in tried]).argmin(0)
    total, weights = train + held_out, first
    for number, ridge in enumerate(RIDGES, 1):
        mine = best == number
        if mine.any():
            weights = torch.where(mine[:, None], _ridge(total, first, ridge), weights)
    return weights


def _ridge(moments: Moments, first: Tensor, ridge: float) -> Tensor:
    xx, xy, _ = moments.centred()
    size = xx.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-30)
    system = xx + (ridge * size)[:, None, None] * torch.eye(xx.shape[1]).to(xx)
    factor, failed = torch.linalg.cholesky_ex(system)
    change = torch.cholesky_solve(xy - xx @ first, factor)
    return first + torch.where((failed == 0)[:, None, None], change, torch.zeros_like(change))


def _error(moments: Moments, train: Moments, weights: Tensor) -> Tensor:
    """Squared error of each output on samples other than those that give the bias: (G, m)"""
    xx, xy, yy = moments.centred()
    spread = yy - 2 * (weights * xy).sum(1) + (weights * (xx @ weights)).sum(1)
    return spread + moments.count * (moments.bias(weights) - train.bias(weights)).square()


@dataclass(frozen=True)
class KeptOutputs:
    """The outputs (K,) of an original section that stay, and which of them are constants."""

    outputs: Tensor
    constant: Tensor

    @classmethod
    def of(cls, graph: ChannelGraph, fold: Fold, section: int) -> KeptOutputs:
        ids = graph.outputs[section]
        kept = torch.from_numpy(fold.kept[ids]).nonzero()[:, 0]
        return cls(kept, torch.from_numpy(fold.constant_channels[ids])[kept])


def reconstruct(
    method: Method,
    graph: ChannelGraph,
    fold: Fold,
    compact: Network,
    batches: Sequence[Tensor],
    progress: Callable[[int], object] = lambda section: None,
    shortened: Shortened | None = None,
) -> State:
    """New tensors of the network that a fold makes, from images (N, C, H, W) in [0, 1].

    `method` finds a section's weights: `matched` or `solved`. Every HELD_OUT-th batch chooses how
    far weights may go. Activations of all images are held at a time, those of one point in the
    network; in files where they are too large. `progress` is called with every section. Where the
    graph's network lacks blocks already, `shortened` has the original, whose outputs are the aim.
    """
    shortened = shortened or Shortened.of(graph.network)
    mine = Network.with_state(compact.cfg, compact.state())
    state = mine.state()
    theirs, ours = Outputs(shortened.original, batches), Outputs(mine, batches)
    before = iter(shortened.original.layers)
    with torch.no_grad():
        for i, layer in enumerate(mine.layers):
            progress(i)
            if layer.is_head and not mine.consumers[i]:
                continue
            section = shortened.origins.get(i)
            if section is None:
                ours.compute(i)  # a [route] to what stands for a block
                continue
            _reach(theirs, before, section)
            full, target = shortened.original.layers[section], KeptOutputs.of(graph, fold, i)
            alike = ours.inputs_are(theirs, i, section)
            learns = isinstance(layer, Convolutional | Connected) and type(layer) is type(full)
            if learns and not alike and not layer.owner:
                pairs = _pairs(layer, full, target, ours.inputs(i), theirs.inputs(section))
                state[i] = _new_tensors(layer, full, target, method, pairs)
                mine.store({i: state[i]})
            theirs.compute(section)
            if alike and len(target.outputs) == full.out_shape.channels:
                ours.share(theirs, i, section)
            else:
                ours.compute(i)
    return state


def _reach(theirs: Outputs, layers: Iterator[Layer], section: int) -> None:
    """Compute all that comes before a section and isn't there in the compact network."""
    for layer in layers:
        index = layer.section.index
        if index == section:
            break
        if not layer.is_head or theirs.network.consumers[index]:
            theirs.compute(index)


Pairs = Sequence[tuple[Tensor, Tensor]]


def _pairs(
    layer: Layer, full: Layer, target: KeptOutputs, ours: Sequence[Tensor], theirs: Sequence[Tensor]
) -> Pairs:
    """Inputs of a section and the outputs that it should have, batch by batch."""
    images = sum(map(len, ours))
    per_output = layer.stored()["weights"][0].numel()
    positions = -(-max(SAMPLES, PER_WEIGHT * per_output) // images)
    random = torch.Generator().manual_seed(layer.section.index)
    pairs = []
    for x, y in zip(ours, theirs, strict=True):
        weighed = full.weigh(y.flatten(1) if isinstance(full, Connected) else y)  # type: ignore
        pairs.append(seen_and_given(layer, x, weighed[:, target.outputs], positions, random))
    return pairs


def _new_tensors(
    layer: Layer, full: Layer, target: KeptOutputs, method: Method, pairs: Pairs
) -> dict[str, Tensor]:
    """The tensors of a section with the weights and biases that a method finds."""
    sums: dict[bool, Moments] = {}
    for number, pair in enumerate(pairs, 1):
        moments, held_out = Moments.of(*pair), number % HELD_OUT == 0
        sums[held_out] = sums[held_out] + moments if held_out in sums else moments
    tensors = dict(layer.stored())
    weights, alive = tensors["weights"], ~target.constant
    first = weights.double().flatten(1).unflatten(0, (layer.groups, -1)).mT
    solution = method(sums[False], sums.get(True), first)
    total = sums[False] + sums[True] if True in sums else sums[False]
    bias = total.bias(solution).flatten().to(weights)
    new = solution.mT.flatten(0, 1).reshape(weights.shape).to(weights)
    tensors["weights"] = torch.where(_rows(alive, weights), new, weights)
    if "scales" in tensors:
        mean = full.stored()["mean"][target.outputs] - bias
        tensors["mean"] = torch.where(alive, mean, tensors["mean"])
    else:
        tensors["biases"] = torch.where(alive, bias, tensors["biases"])
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _rows(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (like.dim() - 1))
