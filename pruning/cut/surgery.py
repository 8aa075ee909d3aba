"""A cut made: living groups and constant channels → compact cfg and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruning.cut.absorb import Absorbed, absorb
from pruning.cut.folding import Fold
from pruning.graph.channels import ChannelGraph, Mask
from pruning.graph.rules import Edits, Kept, Producer, Tensors, Weighted, rule_of
from yolo.cfg import Cfg
from yolo.layers import Layer
from yolo.network import Network, State


def operate(graph: ChannelGraph, state: State, fold: Fold) -> tuple[Cfg, State]:
    """The compact cfg and its tensors; untouched tensors are shared with `state`."""
    edits: dict[int, Edits] = {}
    small: State = {}
    for i, layer in enumerate(graph.network.layers):
        kept = Kept(
            [_indices(fold.kept[ids]) for ids in graph.inputs[i]],
            _indices(fold.kept[graph.outputs[i]]),
        )
        tensors: Tensors = state.get(i, {})
        if not _keeps_all(layer, kept) or _has_constant_channels(graph, i, fold):
            edits[i], tensors = _cut(graph, layer, tensors, kept, fold)
        if tensors:
            small[i] = dict(tensors)
    return graph.network.cfg.edited(edits), small


def compact_network(graph: ChannelGraph, fold: Fold, state: State | None = None) -> Network:
    """The network of a fold, with the graph's own tensors or those of `state`."""
    cfg, small = operate(graph, graph.network.state() if state is None else state, fold)
    untouched = bool(fold.kept.all() and not fold.constant_channels.any())
    return Network.with_state(graph.network.cfg if untouched else cfg.strict(), small)


def masked(graph: ChannelGraph, state: State, fold: Fold, folded: bool) -> State:
    """Tensors of the original with the cut groups silenced: the reference of a cut.

    `folded` makes the inexact folds that the cut makes, too, and only those: what is left then
    between this and the compact network is an error of the surgery.
    """
    out: State = {}
    for i, layer in enumerate(graph.network.layers):
        tensors: Tensors = state.get(i, {})
        if not tensors:
            continue
        rule = rule_of(layer)
        if folded and isinstance(rule, Weighted) and layer.mixes:
            absorbed = absorb(layer, tensors, graph.inputs[i][0], fold, layer.sources[0])
            if absorbed.forgotten.any():
                tensors = _forgetting(rule, tensors, absorbed, fold.alive[graph.outputs[i]])
        silent = _indices(~fold.alive[graph.outputs[i]])
        if isinstance(rule, Producer) and len(silent):
            tensors = rule.silence(layer, tensors, silent)
            if folded and fold.ignored:  # only what isn't there is ignored behind a constraint
                tensors = rule.mute(tensors, silent)
        out[i] = dict(tensors)
    return out


def _cut(
    graph: ChannelGraph, layer: Layer, tensors: Tensors, kept: Kept, fold: Fold
) -> tuple[Edits, dict[str, Tensor]]:
    rule, index = rule_of(layer), layer.section.index
    if tensors and isinstance(rule, Weighted) and layer.mixes:
        (ids,) = graph.inputs[index]
        absorbed = absorb(layer, tensors, ids, fold, layer.sources[0])
        if absorbed.shift is not None:
            tensors = rule.shifted(tensors, absorbed.shift)
        edits, small = rule.cut(layer, tensors, kept)
        _rewire(rule, layer, small, kept, absorbed, fold.constant_channels[ids])
    else:
        edits, small = rule.cut(layer, tensors, kept)
    if isinstance(rule, Producer):
        ids = graph.outputs[index][kept.outputs.numpy()]
        constant = fold.constant_channels[ids]
        rule.emit(
            layer, small, _indices(constant), torch.from_numpy(fold.constant_values[ids[constant]])
        )
    return edits, small


def _rewire(
    rule: Weighted[Any],
    layer: Layer,
    small: dict[str, Tensor],
    kept: Kept,
    absorbed: Absorbed,
    constant_channels: Mask,
) -> None:
    """Give the constant channels among a section's inputs their weights."""
    channels = kept.inputs[0].numpy()
    for position in np.flatnonzero(constant_channels[channels]):
        column = absorbed.columns.get(int(channels[position]))
        if column is not None and len(kept.outputs) < layer.out_shape.channels:
            column = column[_rows_of_part(layer, kept, int(channels[position]))]
        rule.rewire(small["weights"], len(channels), int(position), column)


def _rows_of_part(layer: Layer, kept: Kept, channel: int) -> Tensor:
    """The kept outputs, counted within its part, of the part that an input channel belongs to."""
    groups = layer.groups
    rows = layer.out_shape.channels // groups
    part = channel // (layer.inputs[0].channels // groups)
    return kept.outputs.reshape(groups, -1)[part] - part * rows


def _forgetting(
    rule: Weighted[Any], tensors: Tensors, absorbed: Absorbed, alive: Mask
) -> dict[str, Tensor]:
    """Tensors that see the shift instead of the forgotten inputs; silenced outputs see nothing."""
    out = {**tensors, "weights": tensors["weights"].clone()}
    for channel in np.flatnonzero(absorbed.forgotten):
        rule.rewire(out["weights"], len(absorbed.forgotten), int(channel), None)
    if absorbed.shift is None:
        return out
    return rule.shifted(out, absorbed.shift * torch.from_numpy(alive))


def _keeps_all(layer: Layer, kept: Kept) -> bool:
    return len(kept.outputs) == layer.out_shape.channels and all(
        len(index) == shape.channels for index, shape in zip(kept.inputs, layer.inputs, strict=True)
    )


def _has_constant_channels(graph: ChannelGraph, section: int, fold: Fold) -> bool:
    return any(
        fold.constant_channels[ids].any()
        for ids in (*graph.inputs[section], graph.outputs[section])
    )


def _indices(mask: Mask) -> Tensor:
    return torch.from_numpy(np.flatnonzero(mask))
