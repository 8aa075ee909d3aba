"""A score for each channel, and for each group of channels.

An importance is a function of a Model. It gives scores of the channels of every section with
filters, out of which --group makes one a group, or scores of the groups themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.calibration.elimination import group_losses
from pruning.calibration.statistics import Statistics
from pruning.cut.constants import tensors_of
from pruning.graph.channels import ChannelGraph
from pruning.registry import BN, IMPORTANCES, LEAST_SQUARES, SENSITIVITY
from yolo.errors import PlanError
from yolo.layers import Layer
from yolo.layers.bayesian import bayesian_layers
from yolo.layers.convolutional import Convolutional
from yolo.network import Network, State

Scores = NDArray[np.float64]
ChannelScores = dict[int, Scores]  # section with filters → a score for each of its outputs


@dataclass(frozen=True, eq=False)
class Model:
    """The inputs of importances.

    `statistics` is what was measured on images, if anything; `sensitivity` what a scan found that
    goes with each group (groups,), if there was one: sensitivity.scan. `posterior` is the Bayesian
    network that it is the plain form of, if it is.
    """

    graph: ChannelGraph
    state: State
    statistics: Statistics | None = None
    seed: int = 0
    sensitivity: Scores | None = None
    posterior: Network | None = None

    @property
    def best(self) -> str:
        """The importance that makes most of what was measured."""
        if self.sensitivity is not None:
            return SENSITIVITY
        return BN if self.statistics is None else LEAST_SQUARES

    def seen(self, importance: str) -> Statistics:
        """The statistics; raises PlanError where there is none."""
        if self.statistics is None:
            raise PlanError(f"importance {importance}: needs images: --calibrate")
        return self.statistics

    def weights(self, section: int) -> Tensor:
        """The weights that a section computes with, be they its own or shared ones."""
        return tensors_of(self.graph.network, self.state, section)["weights"]


@dataclass(frozen=True, eq=False)
class GroupScores:
    """The scores of all groups (groups,), and of the single channels that they are made of."""

    groups: Scores
    channels: ChannelScores

    @classmethod
    def of(cls, model: Model, name: str, how: str) -> GroupScores:
        """`name` is one of registry.IMPORTANCES, `how` of registry.GROUP_SCORES.

        Raises PlanError where a score is not a number.
        """
        graph, scores = model.graph, IMPORTANCES[name].load()(model)
        channels = scores if isinstance(scores, dict) else _of_channels(graph, scores)
        for i, values in channels.items():
            if np.isnan(values).any():
                where = graph.network.cfg.layers[i]
                message = (
                    f"importance {name} is not a number for channel {np.isnan(values).argmax()}"
                )
                raise PlanError(str(where.error(message)))
        groups = group_scores(graph, scores, how) if isinstance(scores, dict) else scores
        return cls(groups, channels)

    def divided(self, graph: ChannelGraph, by: Scores) -> GroupScores:
        """The scores over a number for each group (groups,)."""
        channels = {i: values / by[graph.outputs[i]] for i, values in self.channels.items()}
        return GroupScores(self.groups / by, channels)


def channel_scores(graph: ChannelGraph, state: State) -> ChannelScores:
    """|γ| of every output channel of a section with filters; without BN its filter's L2 norm.

    Both are the standard deviation that the channel has before its activation, the norm for
    inputs of variance 1. Liu et al., Learning Efficient Convolutional Networks through Network
    Slimming (ICCV 2017), and Li et al., Pruning Filters for Efficient ConvNets (ICLR 2017).
    """
    scores = {}
    for i in graph.producers:
        tensors = state[i]
        if "scales" in tensors:
            values = tensors["scales"].abs()
        else:
            values = tensors["weights"].flatten(1).norm(dim=1)
        scores[i] = values.double().numpy()
    return scores


def group_scores(graph: ChannelGraph, channels: ChannelScores, how: str = "first") -> Scores:
    """One score a group from those of its channels; `how` is one of registry.GROUP_SCORES.

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


def _of_channels(graph: ChannelGraph, groups: Scores) -> ChannelScores:
    """Every channel has the score of its group."""
    return {i: groups[graph.outputs[i]] for i in graph.producers}


def bn(model: Model) -> ChannelScores:
    return channel_scores(model.graph, model.state)


def _norms(model: Model, order: int) -> ChannelScores:
    return {
        i: _numbers(torch.linalg.vector_norm(filters, order, dim=1, dtype=torch.float64))
        for i, filters in _filters(model)
    }


def l1(model: Model) -> ChannelScores:
    """Σ|w| of a filter as it is stored, its BN scale not counted, as Li et al. (ICLR 2017) do.

    It grows with the filter's size: compare it within a layer rather than globally.
    """
    return _norms(model, 1)


def l2(model: Model) -> ChannelScores:
    """√Σw² of a filter as it is stored: He et al., Soft Filter Pruning (IJCAI 2018)."""
    return _norms(model, 2)


def fpgm(model: Model) -> ChannelScores:
    """Sum of a filter's distances to the others of its section.

    Where it is least, the filter lies nearest to their geometric median, and others can stand for
    it. He et al., Filter Pruning via Geometric Median (CVPR 2019).
    """
    return {i: _numbers(torch.cdist(f, f).sum(1)) for i, f in _filters(model)}


def lamp(model: Model) -> ChannelScores:
    """A filter's squared norm over the sum of all in its section that are at least as large.

    The largest of every section has 1, so that sections of any scale can be compared. Lee et al.,
    Layer-Adaptive Sparsity for the Magnitude-based Pruning (ICLR 2021), filters for weights.
    """
    scores = {}
    for i, norms in l2(model).items():
        squares = norms**2
        ascending = np.sort(squares)
        # from the back: sums[n] is that of ascending[n:]
        sums = np.cumsum(ascending[::-1])[::-1][np.searchsorted(ascending, squares)]
        scores[i] = np.divide(squares, sums, out=np.zeros_like(squares), where=sums != 0)
    return scores


def bn_next(model: Model) -> ChannelScores:
    """|γ| (or the norm) times the L2 norm of all weights that the channel meets.

    These are its group's in every section that weighs it, behind whatever passes it on; a
    [connected] sees a channel H·W times. What nothing weighs has 0.
    """
    graph = model.graph
    energy = np.zeros(graph.size)
    for i, layer in enumerate(graph.network.layers):
        if layer.mixes:
            np.add.at(energy, graph.inputs[i][0], _input_energy(layer, model.weights(i)))
    outgoing = np.sqrt(energy)
    return {i: values * outgoing[graph.outputs[i]] for i, values in bn(model).items()}


def _input_energy(layer: Layer, weights: Tensor) -> Scores:
    """Σw² of all weights for each input channel: (C,)"""
    if isinstance(layer, Convolutional):
        parts = weights.unflatten(0, (layer.groups, -1)).flatten(3).transpose(1, 2)
        rows = parts.flatten(0, 1).flatten(1)
    else:
        columns = weights.flatten(0, -2).unflatten(1, (layer.inputs[0].channels, -1))
        rows = columns.transpose(0, 1).flatten(1)
    return _numbers(torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square())


def random(model: Model) -> Scores:
    """A number in [0, 1) for each group: what the others have to beat."""
    return np.random.default_rng(model.seed).random(model.graph.size)


def activation(model: Model) -> ChannelScores:
    """The variance of a channel's output: what a constant in its place leaves out."""
    return {i: _numbers(model.seen("activation").energy[i]) for i in model.graph.producers}


def taylor(model: Model) -> ChannelScores:
    """How far the heads move without a channel, squared, to first order.

    Molchanov et al., Importance Estimation for Neural Network Pruning (CVPR 2019), with random
    directions of the heads in place of a loss, so that no labels are needed.
    """
    return {i: _numbers(model.seen("taylor").taylor[i]) for i in model.graph.producers}


def signal(model: Model) -> ChannelScores:
    """Σ E[w]² / Σ Var[w] of a filter's weights; without bound where they have no variance.

    Where only its scale is uncertain that is 1/α. Graves, Practical Variational Inference for
    Neural Networks (NIPS 2011), prunes weights by |E[w]|/√Var[w].
    """
    scores = {i: np.full(len(model.graph.outputs[i]), np.inf) for i in model.graph.producers}
    layers = bayesian_layers(model.posterior.layers) if model.posterior else {}
    if not layers:
        raise PlanError("importance signal: needs the .pt of a network with Bayesian sections")
    for i, layer in layers.items():
        mean, variance = (moment.double().flatten(1) for moment in layer.moments())
        scores[i] = _numbers(mean.square().sum(1) / variance.sum(1).clamp(min=1e-300))
    return scores


def least_squares(model: Model) -> Scores:
    return group_losses(model.graph, model.state, model.seen(LEAST_SQUARES))


def sensitivity(model: Model) -> Scores:
    """The scan's loss of each slot, after those before it are gone."""
    if model.sensitivity is None:
        raise PlanError(f"importance {SENSITIVITY}: needs a scan: --scan")
    return model.sensitivity


def _filters(model: Model) -> list[tuple[int, Tensor]]:
    """The filters (n, weights) of every section that has some."""
    return [(i, model.weights(i).flatten(1)) for i in model.graph.producers]


def _numbers(scores: Tensor) -> Scores:
    return scores.double().cpu().numpy()
