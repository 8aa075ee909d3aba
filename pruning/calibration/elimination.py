"""Channels that others can replace: groups eliminated one by one, weights solved anew.

Removing input channels S of a section and solving its other weights anew costs
tr(W_S [(Σ⁻¹)_SS]⁻¹ W_Sᵀ) of its outputs' mean square, Σ the covariance of its inputs: Hassibi,
Stork and Wolff, Optimal Brain Surgeon (ICNN 1993), for whole channels as in Kurtić, Frantar and
Alistarh, ZipLM (NeurIPS 2023). Taps of a kernel count as inputs of their own with the same
covariance, which keeps the systems as small as the channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.calibration.statistics import Statistics
from pruning.cut.constants import tensors_of
from pruning.graph.channels import ChannelGraph, Family
from pruning.graph.rules.coupling import Ids
from yolo.network import State

Losses = NDArray[np.float64]
RIDGE = 1e-2  # of the mean variance of a section's inputs


def group_losses(graph: ChannelGraph, state: State, statistics: Statistics) -> Losses:
    """The heads' loss with each group (groups,), after the weaker ones of its family are gone.

    Of a family, the group whose loss is least goes first; then the losses of the others are those
    that are left. Scores grow along that order; they are 0 where nothing weighs a group.
    """
    scores = np.zeros(graph.size)
    for family in graph.families:
        losses = eliminate(_systems(graph, state, statistics, family), family.slots)
        scores[family.groups] = losses[None]
    return scores


@dataclass
class System:
    """One section, or one of its groups, of which a family feeds channels.

    `inverse` (C, C) is that of the inputs' covariance, `weighed` (C, C) is WᵀW, each output
    weighted by its effect on the heads; `channels` (slots, s) are the channels of every slot.
    """

    inverse: Tensor
    weighed: Tensor
    channels: Tensor

    def losses(self, slots: Tensor) -> Tensor:
        """Loss of removing each of these slots: (slots,)"""
        at = self.channels[slots]
        rows, columns = at[:, :, None], at[:, None]
        solved = torch.linalg.solve(self.inverse[rows, columns], self.weighed[rows, columns])
        return solved.diagonal(dim1=1, dim2=2).sum(1)

    def remove(self, slot: int) -> None:
        """Solve the other weights anew without a slot."""
        at = self.channels[slot]
        gain = torch.linalg.solve(self.inverse[at][:, at], self.inverse[at])  # (s, C)
        inverse, weighed = self.inverse, self.weighed
        self.weighed = (
            weighed
            - weighed[:, at] @ gain
            - gain.T @ weighed[at]
            + gain.T @ weighed[at][:, at] @ gain
        )
        self.inverse = inverse - inverse[:, at] @ gain


def eliminate(systems: list[System], slots: int) -> Losses:
    """The losses of a family's slots (slots,) as they go, the cheapest first."""
    if not all(bool(s.inverse.isfinite().all() & s.weighed.isfinite().all()) for s in systems):
        return np.full(slots, np.nan)
    losses = np.zeros(slots)
    remaining = torch.arange(slots)
    highest = 0.0
    while len(remaining):
        candidates = sum(
            (system.losses(remaining) for system in systems), torch.zeros(len(remaining)).double()
        )
        cheapest = int(candidates.argmin())
        highest = max(highest, float(candidates[cheapest]))
        slot = int(remaining[cheapest])
        losses[slot] = highest
        remaining = torch.cat((remaining[:cheapest], remaining[cheapest + 1 :]))
        for system in systems:
            system.remove(slot)
    return losses


def _systems(
    graph: ChannelGraph, state: State, statistics: Statistics, family: Family
) -> list[System]:
    slot_of = np.full(graph.size, -1)
    slot_of[family.groups] = np.arange(family.slots)
    systems = []
    for i, covariance in statistics.covariance.items():
        slots = slot_of[graph.inputs[i][0]]
        if (slots < 0).all():
            continue
        effect = statistics.effect[i]
        groups, channels = covariance.shape[:2]
        weights = (
            tensors_of(graph.network, state, i)["weights"]
            .double()
            .flatten(1)
            .unflatten(1, (channels, -1))
        )
        weights = (weights * effect.sqrt()[:, None, None]).unflatten(0, (groups, -1))
        for part, inside in enumerate(slots.reshape(groups, channels)):
            slot_channels = _slot_channels(inside, family.slots)
            if slot_channels is not None:
                weighed = torch.einsum("oct,odt->cd", weights[part], weights[part])
                systems.append(System(_inverse(covariance[part]), weighed, slot_channels))
    return systems


def _slot_channels(slots: Ids, count: int) -> Tensor | None:
    """The channels of every slot: (slots, s); None where there are none."""
    order = np.argsort(slots, kind="stable")
    order = order[slots[order] >= 0]
    return torch.from_numpy(order.reshape(count, -1)) if len(order) else None


def _inverse(covariance: Tensor) -> Tensor:
    if not covariance.isfinite().all():
        return covariance
    size = float(covariance.diagonal().mean()) or 1.0
    ridge = RIDGE * size * torch.eye(len(covariance), dtype=covariance.dtype)
    return torch.linalg.inv(covariance + ridge)
