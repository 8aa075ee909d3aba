"""Sparse training: a pull on exactly the γ that a strategy can prune, and how far it has come."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from pruning.cut.folding import Folding
from pruning.cut.surgery import masked
from pruning.graph.channels import ChannelGraph, Mask
from pruning.graph.rules.coupling import Ids
from pruning.proof.verify import relative
from pruning.selection.families import prunable
from pruning.selection.importance import Model
from pruning.selection.select import reachable, select
from pruning.spec import Spec
from yolo.errors import PlanError
from yolo.layers import Layer
from yolo.network import Network, State
from yolo.registry import Entry

SMALL = 0.01  # γ below this part of the largest are called small
CHANGE = 0.01  # relative L2 at the heads that a cut may make to be called free
LOUD, LOUDEST = 0.05, 0.1  # γ that the mean of this share of them, the largest, must reach
LEAST_PERCENT = 0.1  # must be free to be worth a cut, where the spec names no percent
DECAYED = 0.01  # what is left of s after half of the epochs
SPARED = 0.15  # the share of the groups, the largest, whose s decays in local-decay
GREY = 0.5

GroupSizes = Callable[[], Tensor]  # of the groups, computed where a schedule asks for them


@dataclass(frozen=True)
class _GroupIndex:
    """Where the γ of the groups lie among all γ of their sections, one after the other.

    `group` (γ,) is the group of each, the number of groups for one that stays as it is. The groups
    with several γ come first: `members` (most, groups) lists theirs, filled up with the number of
    all γ. `single` (groups,) are those of the others. `root` (groups,) is the square root of the
    count.
    """

    group: Tensor
    members: Tensor
    single: Tensor
    root: Tensor

    @classmethod
    def of(cls, ids: Ids, allowed: Mask) -> _GroupIndex:
        """From the id of each γ's group in the graph, and the ids that are allowed."""
        count = np.bincount(ids, minlength=len(allowed)) * allowed
        groups = np.argsort(-count, kind="stable")[: np.count_nonzero(count)]
        count = count[groups]
        number = np.full(len(allowed), len(groups))
        number[groups] = np.arange(len(groups))
        group = number[ids]
        order = np.argsort(group, kind="stable")[: count.sum()]
        first = np.cumsum(count) - count
        members = np.full((count.max(), np.count_nonzero(count > 1)), len(ids))
        for row in range(len(members)):
            has = np.flatnonzero(count[: members.shape[1]] > row)
            members[row, has] = order[first[has] + row]
        single = order[first[members.shape[1] :]]
        return cls(*map(torch.from_numpy, (group, members, single, np.sqrt(count))))

    def to(self, like: Tensor) -> _GroupIndex:
        """On a tensor's device, the root in its dtype, too."""
        group, members, single = (
            t.to(like.device) for t in (self.group, self.members, self.single)
        )
        return _GroupIndex(group, members, single, self.root.to(like))

    def norms(self, gammas: Tensor) -> Tensor:
        """The norm of the γ of each group: (groups,)

        Added up in a fixed order: index_add's atomics would let the copies of a network on
        several devices drift apart.
        """
        squares = torch.cat((gammas.square(), gammas.new_zeros(1)))
        several = squares.index_select(0, self.members.flatten()).view(self.members.shape)
        return torch.cat((several.sum(0), squares.index_select(0, self.single))).sqrt()


class Penalty:
    """The group lasso Σ √n·‖γ of a group‖ over the groups of channels that a strategy can prune.

    For a group of one γ it is L1, the penalty of Network Slimming (Liu et al., ICCV 2017); γ that
    shortcuts couple go to zero together (Yuan & Lin, Model Selection and Estimation in Regression
    with Grouped Variables, 2006). `groups` is their number. Groups without γ are left out.
    """

    def __init__(self, graph: ChannelGraph, sections: tuple[int, ...], index: _GroupIndex) -> None:
        self.graph, self.sections = graph, sections
        self.groups = len(index.root)
        self._original = index
        self._copies: dict[tuple[torch.device, torch.dtype], _GroupIndex] = {}
        self._slots: WeakKeyDictionary[Network, list[tuple[nn.Module, str]]] = WeakKeyDictionary()

    @classmethod
    def of(cls, graph: ChannelGraph, spec: Spec) -> Penalty:
        """The penalty for what a spec may cut; raises PlanError where that has no γ."""
        allowed, network = prunable(graph, spec), graph.network
        sections = tuple(
            i
            for i in graph.producers
            if _learns(network.layers[i]) and allowed[graph.outputs[i]].any()
        )
        if not sections:
            raise PlanError(
                f"{network.cfg.path}: nothing to make sparse: {spec.strategy} finds no "
                "batch_normalize=1 in what it may cut"
            )
        ids = np.concatenate([graph.outputs[i] for i in sections])
        return cls(graph, sections, _GroupIndex.of(ids, allowed))

    @torch.no_grad()
    def shrink(self, network: Network, amount: float | Tensor) -> None:
        """A proximal step in place, after the optimiser's: ‖γ‖ ← max(‖γ‖ − √n·amount, 0).

        `amount` is the step size · s, for all groups or for each (groups,); a single γ is
        soft-thresholded, |γ| ← max(|γ| − amount, 0). γ that can't be pruned aren't touched.
        """
        scales = self._scales(network)
        gammas = torch.cat(scales)
        index = self._on(gammas)
        norms = index.norms(gammas).clamp(min=torch.finfo(gammas.dtype).tiny)
        factors = (1 - amount * index.root / norms).clamp(min=0)
        factors = torch.cat((factors, factors.new_ones(1))).index_select(0, index.group)
        for scale, factor in zip(scales, factors.split([len(s) for s in scales]), strict=True):
            scale.mul_(factor)

    @torch.no_grad()
    def value(self, network: Network) -> float:
        """The penalty itself, for the log."""
        gammas = torch.cat(self._scales(network))
        index = self._on(gammas)
        return float((index.root * index.norms(gammas)).sum())

    @torch.no_grad()
    def sizes(self, network: Network) -> Tensor:
        """The root mean square of the γ of each group: (groups,)"""
        gammas = torch.cat(self._scales(network))
        index = self._on(gammas)
        return index.norms(gammas) / index.root

    @torch.no_grad()
    def gammas(self, network: Network) -> Tensor:
        """|γ| of all that can be pruned: (γ,)"""
        gammas = torch.cat(self._scales(network))
        return gammas[self._on(gammas).group < self.groups].abs()

    def _scales(self, network: Network) -> list[Tensor]:
        if network not in self._slots:  # to ask takes longer than all the rest of a step
            self._slots[network] = [network.layers[i].slots()["scales"] for i in self.sections]
        return [getattr(module, attribute) for module, attribute in self._slots[network]]

    def _on(self, gammas: Tensor) -> _GroupIndex:
        key = gammas.device, gammas.dtype
        if key not in self._copies:
            self._copies[key] = self._original.to(gammas)
        return self._copies[key]


def _learns(layer: Layer) -> bool:
    """True where a section has γ that aren't frozen."""
    scales = layer.stored().get("scales")
    return scales is not None and scales.requires_grad


def constant(s: float, late: bool, sizes: GroupSizes) -> float:
    return s


def global_decay(s: float, late: bool, sizes: GroupSizes) -> float:
    return s * DECAYED if late else s


def local_decay(s: float, late: bool, sizes: GroupSizes) -> float | Tensor:
    if not late:
        return s
    values = sizes()
    limit = values.kthvalue(math.ceil((1 - SPARED) * len(values))).values
    return torch.where(values > limit, s * DECAYED, s)


def strength(
    schedule: Entry, s: float, epoch: float, epochs: int, sizes: GroupSizes
) -> float | Tensor:
    """The s of an epoch, counted from 0, or of every group then (groups,).

    `schedule` is one of registry.SCHEDULES, those of tanluren/yolov3-channel-and-layer-pruning:
    from half of the epochs on, global-decay takes s/100, local-decay takes it for the 15 % of the
    groups that are largest now (`sizes` gives Penalty.sizes). It remembers nothing, so a resumed
    run has what an unbroken one has.
    """
    result: float | Tensor = schedule.load()(s, epoch >= epochs / 2, sizes)
    return result


@dataclass(frozen=True)
class SparsityProgress:
    """How far sparse training has come.

    `small`: share of the prunable γ that are below 1 % of the largest. `percent`: the largest
    percent of the strategy's channels, in steps of 0.01, whose cut changes what enters the heads
    by less than 1 % (relative L2 of the masked network).
    """

    small: float
    percent: float
    verdict: str

    def line(self) -> str:
        """One line for the progress output."""
        return (
            f"{100 * self.small:.0f} % of γ below 1 % of the largest; --percent {self.percent:.2f} "
            f"would change the heads by under 1 %; {self.verdict}"
        )


@torch.no_grad()
def look(network: Network, penalty: Penalty, spec: Spec, images: Tensor) -> SparsityProgress:
    """Probe a network, in training or not, without changing it; about nine forward passes.

    `images` are (N, C, H, W) in [0, 1], float. A spec with a percent asks whether that is free.
    """
    gammas = penalty.gammas(network)
    small = float((gammas <= SMALL * gammas.max()).double().mean())
    probe = _Probe(network, penalty.graph, images)
    percent = probe.free_percent(spec)
    return SparsityProgress(small, percent, _verdict(spec, percent, gammas, probe.response()))


def _verdict(spec: Spec, percent: float, gammas: Tensor, response: float) -> str:
    """Over-regularised is what has no loud channel, or a head that no longer sees the image.

    BN compensates small γ before it, so that the loss shows it late. But |γ| is the standard
    deviation of a channel before its activation: where even the loudest tenth has one under 0.05,
    all activations work within a hair of act(β), as if they were linear. And a layer whose γ are
    all gone cuts the image off, though the others' are large; then every cut would look free.
    """
    loudest = gammas.topk(math.ceil(LOUDEST * len(gammas))).values.mean()
    if response < CHANGE:
        return "over-regularised: a head hardly depends on the image; lower s"
    if loudest < LOUD:
        return f"over-regularised: the largest γ are only {float(loudest):.2g}; lower s"
    if percent < (spec.percent or LEAST_PERCENT):
        return "not sparse yet"
    return f"enough for percent {percent:.2f}"


class _Probe:
    """The inputs of a network's heads in evaluation mode, with and without silenced groups."""

    def __init__(self, network: Network, graph: ChannelGraph, images: Tensor) -> None:
        self.graph, self.state = graph, network.state()
        self.copy = Network(network.cfg)
        first = next(tensor for tensors in self.state.values() for tensor in tensors.values())
        self.images = images.to(first)
        self.original = self._run(self.state, self.images)

    def response(self) -> float:
        """The change at the head that notices least when the images turn grey."""
        grey = self._run(self.state, torch.full_like(self.images[:1], GREY))
        return min(relative({i: grey[i]}, {i: self.original[i]}) for i in self.original)

    def free_percent(self, spec: Spec) -> float:
        """The largest percent, to 0.01, that changes the heads by less than CHANGE."""
        state = {i: {n: t.cpu() for n, t in tensors.items()} for i, tensors in self.state.items()}
        folding = Folding(self.graph, state)
        free, beyond = 0, int(100 * reachable(self.graph, state, spec, folding) + 1e-6) + 1
        while beyond - free > 1:
            middle = (free + beyond) // 2
            plan = select(Model(self.graph, state), spec.at_percent(middle / 100), folding)
            fold = folding.fold(plan.alive(self.graph), plan.mean)
            changed = self._run(masked(self.graph, self.state, fold, False), self.images)
            if relative(changed, self.original) < CHANGE:
                free = middle
            else:
                beyond = middle
        return free / 100

    def _run(self, state: State, images: Tensor) -> dict[int, Tensor]:
        self.copy.store(state)
        return self.copy(images, collect=self.copy.head_inputs)
