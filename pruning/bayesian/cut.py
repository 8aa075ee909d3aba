"""From the posteriors of a Bayesian network to the channels that live, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.bayesian.precision import Compression, Posterior, compacted, compression, reduced
from pruning.bayesian.thresholds import Threshold, Wanted, choose, for_sections
from pruning.cut.plan import Plan
from pruning.graph.channels import ChannelGraph, Family, Mask
from pruning.graph.rules import Weighted, rule_of
from pruning.selection.families import prunable
from pruning.spec import Limits, Spec, Thresholds
from yolo.errors import PlanError
from yolo.layers import Layer
from yolo.layers.bayesian import Bayesian, BayesianConnected, BayesianConvolutional, bayesian_layers
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.network import Network, State

LogAlphas = dict[int, NDArray[np.float64]]  # section → a number a group


def log_alphas_of(network: Network) -> LogAlphas:
    """How superfluous the groups of every Bayesian section are: log α, or the negative log-mode.

    Raises PlanError where no section is Bayesian, or a number is not finite.
    """
    log_alphas = {}
    for index, layer in bayesian_layers(network.layers).items():
        log_alphas[index] = layer.log_alpha().double().cpu().numpy()
        if not np.isfinite(log_alphas[index]).all():
            raise PlanError(str(layer.section.error("the posterior of its groups is not finite")))
    if not log_alphas:
        raise PlanError(
            f"{network.cfg.path}: has no Bayesian section; tools/convert.py bayesian makes them"
        )
    return log_alphas


@dataclass(frozen=True)
class BayesianCut:
    """A Bayesian network with its groups cut at thresholds.

    `network` is a twin that shares the given network's tensors, and whose sections know what they
    dropped. `alive` are groups of its channel graph, and of that of its plain network, which is the
    same.
    """

    network: Network
    log_alphas: LogAlphas
    thresholds: Mapping[int, Threshold]
    alive: Mask
    rates: Compression

    @classmethod
    def of(
        cls, network: Network, thresholds: Thresholds, limits: Limits | None = None
    ) -> BayesianCut:
        """The cut for thresholds; raises PlanError."""
        wanted = wanted_of(network, thresholds)
        return cls.at(network, ChannelGraph(network), wanted, limits or Limits())

    @classmethod
    def at(
        cls, network: Network, graph: ChannelGraph, wanted: Wanted, limits: Limits
    ) -> BayesianCut:
        """The cut for the thresholds of each section, with the network's channel graph."""
        twin = Network.with_state(network.cfg, network.state())
        log_alphas = log_alphas_of(twin)
        chosen = choose(log_alphas, wanted)
        alive = drop(twin, graph, log_alphas, chosen, limits)
        return cls(twin, log_alphas, chosen, alive, compression(posteriors(twin, graph, alive)))

    def plan(self, graph: ChannelGraph, strategy: str) -> Plan:
        """The plan that keeps what lives; its percent is what it cuts of all that can be cut."""
        free = ~graph.pinned
        percent = 1 - graph.count(free & self.alive) / max(graph.count(free), 1)
        return Plan.of(graph, self.alive, strategy, percent)

    def panels(self) -> list[tuple[str, NDArray[np.float64], Threshold]]:
        """Panels of the Bayesian sections for figures.overview."""
        sections = self.network.cfg.layers
        return [
            (f"{i} {sections[i].type}", values, self.thresholds[i])
            for i, values in self.log_alphas.items()
        ]

    def reduced(self, state: State) -> State:
        """The plain network's tensors, its weights in reduced precision."""
        bits = {layer.index: layer.significand for layer in self.rates.layers}
        return {
            i: tensors | {"weights": reduced(tensors["weights"], bits[i])} if i in bits else tensors
            for i, tensors in state.items()
        }


def wanted_of(network: Network, thresholds: Thresholds) -> Wanted:
    """The threshold that is asked for each Bayesian section; raises PlanError."""
    return for_sections(thresholds, {i: network.cfg.layers[i] for i in log_alphas_of(network)})


def drop(
    network: Network,
    graph: ChannelGraph,
    log_alphas: LogAlphas,
    thresholds: Mapping[int, Threshold],
    limits: Limits,
) -> Mask:
    """Silence the groups at or above the thresholds; returns the channel groups that live.

    A channel goes where all that makes it drops it, or all that uses it: a [bayesian_connected]
    drops a channel when it drops all of its positions. Every family keeps the best of its channels,
    and equally many in each of its parts. `graph` is that of the network or of its plain form.

    The limits' `spare`, `only` and `keep_min` mean output channels, as for any strategy; what
    can't be cut, such as the positions of the image, counts as the section's that could silence it.
    Raises PlanError where they name a section that has nothing to cut.
    """
    margins = {i: values - thresholds[i].value for i, values in log_alphas.items()}
    margin = np.maximum(_made(graph, network, margins), _used(graph, network, margins))
    dead, allowed = (margin >= 0) & ~graph.pinned, _allowed(graph, limits)
    alive = ~(dead & allowed)
    for family in graph.families:
        _revive(family, alive, margin, limits.keep_min)
    for i, layer in bayesian_layers(network.layers).items():
        ids = _ids(graph, layer, i)
        named = i not in limits.spare and (limits.only is None or i in limits.only)
        own = (margins[i] >= 0) & np.where(graph.pinned[ids], named, allowed[ids])
        # a channel that the family needs speaks again, whoever dropped it
        dropped = own & ~(dead & alive)[ids]
        if isinstance(layer, BayesianConvolutional):
            dropped |= ~alive[ids]
        layer.dropped = torch.from_numpy(dropped).to(layer.log_alpha().device)
    return alive


def posteriors(network: Network, graph: ChannelGraph, alive: Mask) -> list[Posterior]:
    """Means and variances of all weights, without the rows and columns that are all zero.

    Weights of plain sections have no variance.
    """
    result = []
    for i, layer in enumerate(network.layers):
        if not isinstance(rule_of(layer), Weighted) or layer.owner:
            continue
        weights = layer.stored()["weights"].detach()
        mean, variance = weights, torch.zeros_like(weights)
        if isinstance(layer, Bayesian):
            mean, variance = layer.moments()
        living = _living(graph, layer, i, alive).to(mean.device)
        numbers = sum(t.numel() for t in layer.means().values()) - weights.numel()
        nonzero, spread = compacted(mean * living, variance * living)
        result.append(
            Posterior(
                index=i,
                section_type=layer.section.type,
                mean=nonzero,
                variance=spread,
                before=weights.numel(),
                extra_before=numbers,
                extra_after=round(numbers * alive[graph.outputs[i]].mean()),
            )
        )
    return result


def _made(graph: ChannelGraph, network: Network, margins: LogAlphas) -> NDArray[np.float64]:
    """The margin at which all that makes a group drops it, −inf where something never does."""
    least = np.full(graph.size, np.inf)
    for i in graph.producers:
        drops = isinstance(network.layers[i], BayesianConvolutional)
        np.minimum.at(least, graph.outputs[i], margins[i] if drops else -np.inf)
    return np.where(np.isposinf(least), -np.inf, least)


def _used(graph: ChannelGraph, network: Network, margins: LogAlphas) -> NDArray[np.float64]:
    """As _made, of all that uses a group."""
    least = np.full(graph.size, np.inf)
    for i, layer in enumerate(network.layers):
        if layer.mixes:
            drops = isinstance(layer, BayesianConnected)
            ids = _ids(graph, layer, i) if drops else graph.inputs[i][0]
            np.minimum.at(least, ids, margins[i] if drops else -np.inf)
    return np.where(np.isposinf(least), -np.inf, least)


def _ids(graph: ChannelGraph, layer: Layer, index: int) -> NDArray[np.int64]:
    """The channel group that each group of a Bayesian section belongs to."""
    if isinstance(layer, BayesianConvolutional):
        return graph.outputs[index]
    return np.repeat(graph.inputs[index][0], layer.inputs[0].area)


def _allowed(graph: ChannelGraph, limits: Limits) -> Mask:
    """The groups that the limits allow to be cut."""
    allowed = prunable(graph, Spec("bayesian", Thresholds(), limits=limits))
    for section in limits.only or ():
        if not allowed[graph.outputs[section]].any():
            where, why = graph.network.cfg.layers[section], graph.reason(section) or "is spared"
            raise PlanError(str(where.error(f"--only {section}: can't be cut: it {why}")))
    return allowed


def _revive(family: Family, alive: Mask, margin: NDArray[np.float64], least: int) -> None:
    """Let every part keep as many of a family's groups as the others, and `least` channels."""
    floor = min(-(-max(least, 1) // family.unit), family.slots)
    count = max(int(alive[family.groups].sum(1).max()), floor)
    for part in family.groups:
        missing = count - int(alive[part].sum())
        silent = part[~alive[part]]
        alive[silent[np.argsort(margin[silent], kind="stable")[:missing]]] = True


def _living(graph: ChannelGraph, layer: Layer, index: int, alive: Mask) -> Tensor:
    """1 where both channels that a weight joins live, of a shape that broadcasts to its weights."""
    ids, outputs = graph.inputs[index][0], torch.from_numpy(alive[graph.outputs[index]])
    if not isinstance(layer, Convolutional | Connected):
        return torch.ones(())
    if isinstance(layer, Convolutional):
        inputs = torch.from_numpy(alive[ids].reshape(layer.groups, -1))
        inputs = inputs.repeat_interleave(layer.filters // layer.groups, 0)
        return (outputs[:, None] & inputs)[:, :, None, None]
    inputs = torch.from_numpy(np.repeat(alive[ids], layer.inputs[0].area))
    return outputs[:, None] & inputs
