"""From the posteriors of a Bayesian network to the channels that live, and what is left of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pruning.bayesian.precision import Compression, Posterior, compacted, compression, reduced
from pruning.bayesian.thresholds import Threshold, Wanted, choose, parse
from pruning.cut.plan import Plan
from pruning.graph.channels import ChannelGraph, Family, Mask
from pruning.graph.rules import Weighted, depthwise, rule_of
from pruning.selection import Wish, prunable
from yolo.errors import PlanError
from yolo.layers import Layer
from yolo.layers.bayesian import Bayesian, BayesianConnected, BayesianConvolutional, bayesian_layers
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.network import Network, State

BAYESIAN = "bayesian"  # the strategy
ANY = Wish(BAYESIAN, 0.0)  # nothing beside the thresholds
Excess = dict[int, NDArray[np.float64]]  # section → a number a group


def excesses(network: Network) -> Excess:
    """How superfluous the groups of every Bayesian section are: log α, or the negative log-mode.

    Raises PlanError where no section is Bayesian, or a number is not finite.
    """
    found = {}
    for index, layer in bayesian_layers(network.layers).items():
        found[index] = layer.excess().double().cpu().numpy()
        if not np.isfinite(found[index]).all():
            raise PlanError(str(layer.section.error("the posterior of its groups is not finite")))
    if not found:
        raise PlanError(
            f"{network.cfg.path}: has no Bayesian section; tools/convert.py bayesian makes them"
        )
    return found


@dataclass(frozen=True)
class BayesianCut:
    """What thresholds leave of a Bayesian network, whose sections know then what they dropped.

    `alive` are groups of its channel graph, and of that of its plain network, which is the same.
    """

    network: Network
    excess: Excess
    thresholds: Mapping[int, Threshold]
    alive: Mask
    rates: Compression

    @classmethod
    def of(cls, network: Network, thresholds: str, wish: Wish = ANY) -> BayesianCut:
        """The cut for thresholds as a user writes them (thresholds.parse); raises PlanError."""
        return cls.at(network, ChannelGraph(network), parsed(network, thresholds), wish)

    @classmethod
    def at(
        cls, network: Network, graph: ChannelGraph, wanted: Wanted, wish: Wish = ANY
    ) -> BayesianCut:
        """The cut for parsed thresholds, with the network's channel graph; raises PlanError."""
        excess = excesses(network)
        chosen = choose(excess, wanted)
        alive = drop(network, graph, excess, chosen, wish)
        return cls(network, excess, chosen, alive, compression(posteriors(network, graph, alive)))

    def plan(self, graph: ChannelGraph) -> Plan:
        """The plan that keeps what lives; its percent is what it cuts of all that can be cut."""
        free = ~graph.pinned
        percent = 1 - graph.count(free & self.alive) / max(graph.count(free), 1)
        return Plan.of(graph, self.alive, BAYESIAN, percent)

    def panels(self) -> list[tuple[str, NDArray[np.float64], Threshold]]:
        """What figures.overview draws of the Bayesian sections."""
        sections = self.network.cfg.layers
        return [
            (f"{i} {sections[i].type}", values, self.thresholds[i])
            for i, values in self.excess.items()
        ]

    def reduced(self, state: State) -> State:
        """The plain network's tensors, its weights in reduced precision."""
        bits = {layer.index: layer.significand for layer in self.rates.layers}
        return {
            i: tensors | {"weights": reduced(tensors["weights"], bits[i])} if i in bits else tensors
            for i, tensors in state.items()
        }


def parsed(network: Network, thresholds: str) -> Wanted:
    """What a user asks for each Bayesian section; raises PlanError."""
    return parse(thresholds, {i: network.cfg.layers[i] for i in excesses(network)})


def drop(
    network: Network,
    graph: ChannelGraph,
    excess: Excess,
    thresholds: Mapping[int, Threshold],
    wish: Wish = ANY,
) -> Mask:
    """Silence the groups at or above the thresholds; returns the channel groups that live.

    A channel goes where all that makes it drops it, or all that uses it: a [bayesian_connected]
    drops a channel when it drops all of its places. Every family keeps the best of its channels,
    and equally many in each of its parts. `graph` is that of the network or of its plain form.

    The wish's `spare`, `only` and `keep_min` mean output channels, as for any strategy; what can't
    be cut, such as the places of the image, counts as the section's that could silence it. Raises
    PlanError where the wish names a section that has nothing to cut.
    """
    margins = {i: values - thresholds[i].value for i, values in excess.items()}
    margin = np.maximum(_made(graph, network, margins), _used(graph, network, margins))
    dead, allowed = (margin >= 0) & ~graph.pinned, _allowed(graph, wish)
    alive = ~(dead & allowed)
    for family in graph.families:
        _revive(family, alive, margin, wish.keep_min)
    for i, layer in bayesian_layers(network.layers).items():
        ids = _ids(graph, layer, i)
        named = i not in wish.spare and (wish.only is None or i in wish.only)
        own = (margins[i] >= 0) & np.where(graph.pinned[ids], named, allowed[ids])
        # a channel that the family needs speaks again, whoever dropped it
        gone = own & ~(dead & alive)[ids]
        if isinstance(layer, BayesianConvolutional):
            gone |= ~alive[ids]
        layer.dropped = torch.from_numpy(gone).to(layer.excess().device)
    return alive


def undrop(network: Network) -> None:
    """Let all groups speak again."""
    for layer in bayesian_layers(network.layers).values():
        layer.dropped = None


def posteriors(network: Network, graph: ChannelGraph, alive: Mask) -> list[Posterior]:
    """Means and variances of all weights, without the rows and columns that are all zero.

    Weights of plain sections have no variance.
    """
    found = []
    for i, layer in enumerate(network.layers):
        if not isinstance(rule_of(layer), Weighted) or layer.owner:
            continue
        weights = layer.stored()["weights"].detach()
        mean, variance = weights, torch.zeros_like(weights)
        if isinstance(layer, Bayesian):
            mean, variance = layer.moments()
        living = _living(graph, layer, i, alive).to(mean.device)
        numbers = sum(t.numel() for t in layer.means().values()) - weights.numel()
        left, spread = compacted(mean * living, variance * living)
        found.append(
            Posterior(
                index=i,
                section_type=layer.section.type,
                mean=left,
                variance=spread,
                before=weights.numel(),
                extra_before=numbers,
                extra_after=round(numbers * alive[graph.outputs[i]].mean()),
            )
        )
    return found


def _made(graph: ChannelGraph, network: Network, margins: Excess) -> NDArray[np.float64]:
    """The margin at which all that makes a group drops it, −inf where something never does."""
    least = np.full(graph.size, np.inf)
    for i in graph.producers:
        drops = isinstance(network.layers[i], BayesianConvolutional)
        np.minimum.at(least, graph.outputs[i], margins[i] if drops else -np.inf)
    return np.where(np.isposinf(least), -np.inf, least)


def _used(graph: ChannelGraph, network: Network, margins: Excess) -> NDArray[np.float64]:
    """As _made, of all that uses a group."""
    least = np.full(graph.size, np.inf)
    for i, layer in enumerate(network.layers):
        if isinstance(rule_of(layer), Weighted) and not depthwise(layer):
            drops = isinstance(layer, BayesianConnected)
            ids = _ids(graph, layer, i) if drops else graph.inputs[i][0]
            np.minimum.at(least, ids, margins[i] if drops else -np.inf)
    return np.where(np.isposinf(least), -np.inf, least)


def _ids(graph: ChannelGraph, layer: Layer, index: int) -> NDArray[np.int64]:
    """The channel group that each group of a Bayesian section belongs to."""
    if isinstance(layer, BayesianConvolutional):
        return graph.outputs[index]
    return np.repeat(graph.inputs[index][0], layer.inputs[0].area)


def _allowed(graph: ChannelGraph, wish: Wish) -> Mask:
    """The groups that the wish allows to be cut."""
    allowed = prunable(graph, replace(wish, strategy="shortcut"))  # which may cut everything
    for section in wish.only or ():
        if not allowed[graph.outputs[section]].any():
            where, why = graph.network.cfg.layers[section], graph.reason(section) or "is spared"
            raise PlanError(str(where.error(f"--only {section}: can't be cut: it {why}")))
    return allowed


def _revive(family: Family, alive: Mask, margin: NDArray[np.float64], least: int) -> None:
    """Let every part keep as many of a family's groups as the others, and `least` channels."""
    floor = min(-(-max(least, 1) // family.unit), family.slots)
    wanted = max(int(alive[family.groups].sum(1).max()), floor)
    for part in family.groups:
        missing = wanted - int(alive[part].sum())
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
