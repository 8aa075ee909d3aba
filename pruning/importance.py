"""A score for each channel, and for each group of channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pruning.channels import ChannelGraph
from yolo.network import State

Scores = NDArray[np.float64]


def channel_scores(graph: ChannelGraph, state: State) -> dict[int, Scores]:
    """|γ| of every output channel of a section with filters; without BN its filter's L2 norm.

    Both are the standard deviation that the channel has before its activation, the norm for
    inputs of variance 1. Liu et al., Learning Efficient Convolutional Networks through Network
    Slimming (ICCV 2017), and Li et al., Pruning Filters for Efficient ConvNets (ICLR 2017).
    """
    scores = {}
    for i in graph.producers:
        tensors = state[i]
        if "scales" in tensors:
            found = tensors["scales"].abs()
        else:
            found = tensors["weights"].flatten(1).norm(dim=1)
        scores[i] = found.double().numpy()
    return scores


def group_scores(graph: ChannelGraph, channels: dict[int, Scores], how: str = "first") -> Scores:
    """One score a group from those of its channels; `how` is one of options.GROUP_SCORES.

    `first` takes the first convolution of a chain (as coldlarry's shortcut pruning does); `union`
    keeps a group as long as any of its channels would be kept, so its score is their maximum.
    """
    total = np.zeros(graph.size)
    count = np.zeros(graph.size)
    for i in graph.producers:
        ids, values = graph.outputs[i], channels[i]
        if how == "first":
            new = count[ids] == 0
            total[ids[new]] = values[new]
        elif how in ("max", "union"):
            np.maximum.at(total, ids, values)
        else:
            np.add.at(total, ids, values)
        np.add.at(count, ids, 1)
    return total / np.maximum(count, 1) if how == "mean" else total
