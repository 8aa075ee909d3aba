"""How a section with weights takes up the constants among its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pruning.cut.borders import mean_shift, needs_channel
from pruning.cut.folding import Fold
from pruning.graph.channels import Mask
from pruning.graph.rules import Tensors, Weighted, rule_of, taps
from pruning.graph.rules.coupling import Ids
from yolo.layers import Layer
from yolo.layers.convolutional import Convolutional


@dataclass(frozen=True)
class Absorbed:
    """The constants that a consumer takes up of its cut inputs.

    `shift` is added to its outputs before BN, `columns` are new weights (n, k, k) for constant
    channels among its inputs; `forgotten` are the cut inputs (C,) that only the shift stands for
    though it isn't exact.
    """

    forgotten: Mask
    shift: Tensor | None = None
    columns: dict[int, Tensor] = field(default_factory=dict)


def absorb(layer: Layer, tensors: Tensors, ids: Ids, fold: Fold, source: int) -> Absorbed:
    """The part of the cut groups among its inputs `ids` (C,) that a section's weights take up."""
    dropped = ~fold.alive[ids]
    if fold.ignored or not dropped.any():
        return Absorbed(dropped)
    exact = np.zeros_like(dropped)
    values = fold.constants.silenced[source] * torch.from_numpy(dropped)
    rule, weights = rule_of(layer), tensors["weights"]
    if needs_channel(layer, fold.weighers):
        emitted = fold.constants.emitted[source]
        emitted = emitted * torch.from_numpy(fold.constant_values[ids]).to(emitted)
        return _absorb_padded(
            layer, taps(layer, weights, values), dropped, fold.constant_channels[ids], emitted
        )
    assert isinstance(rule, Weighted)
    return Absorbed(exact, rule.added(layer, weights, values))


def _over(added: Tensor, emitted: Tensor) -> Tensor:
    """Weights for a constant channel; none where it arrives as 0, as then all others do."""
    return added / emitted if emitted else torch.zeros_like(added)


def _absorb_padded(
    layer: Convolutional, added: Tensor, dropped: Mask, constant_channels: Mask, emitted: Tensor
) -> Absorbed:
    """Part by part: the first constant channel carries all, where there is one."""
    shift, columns, forgotten = mean_shift(layer, added), {}, dropped.copy()
    channels, rows = len(constant_channels) // layer.groups, len(added) // layer.groups
    for part in range(layer.groups):
        inputs = slice(part * channels, (part + 1) * channels)
        outputs = slice(part * rows, (part + 1) * rows)
        carriers = np.flatnonzero(constant_channels[inputs])
        if len(carriers):
            channel = inputs.start + int(carriers[0])
            columns[channel] = _over(added[outputs], emitted[channel])
            shift[outputs] = 0
            forgotten[inputs] = False
    return Absorbed(forgotten, shift, columns)
