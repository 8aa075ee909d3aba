"""Savings by channels of single families, in MACs or in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruning.graph.channels import ChannelGraph, Family
from pruning.graph.rules.coupling import Ids
from yolo.layers import IMAGE

Amounts = NDArray[np.float64]


@dataclass(frozen=True)
class SectionRates:
    """A quantity of every section, by its widths: inputs·i + outputs·o + pairs·i·o (sections,).

    `i` is the width of its first source, `o` its own.
    """

    inputs: Amounts
    outputs: Amounts
    pairs: Amounts


class Savings:
    """How much of a quantity goes with slots of each family, where all others stay as they are."""

    def __init__(
        self, graph: ChannelGraph, families: Sequence[Family], rates: SectionRates
    ) -> None:
        layers = graph.network.layers
        family_of = np.full(graph.size, len(families))
        for number, family in enumerate(families):
            family_of[family.groups] = number
        slots = np.array([family.slots for family in families] + [1])
        self._rates = rates
        sources = [(*layer.sources, IMAGE)[0] for layer in layers]
        self._inputs = _channels(graph, family_of, sources, len(slots)) / slots
        self._outputs = _channels(graph, family_of, range(len(layers)), len(slots)) / slots

    def of(self, left: Ids, gone: Ids) -> Amounts:
        """Savings of each family (families,) alone, by so many of the slots that are left."""
        slots = np.append(left, 1)
        inputs, outputs = self._inputs @ slots, self._outputs @ slots
        rates, i, o = self._rates, self._inputs[:, :-1], self._outputs[:, :-1]
        single = (rates.inputs + rates.pairs * outputs) @ i
        single += (rates.outputs + rates.pairs * inputs) @ o
        return single * gone - rates.pairs @ (i * o) * gone**2


def _channels(graph: ChannelGraph, family_of: Ids, sections: Sequence[int], count: int) -> Amounts:
    """The channels that every section has of each family, then of none: (sections, count)"""
    rows = [np.bincount(family_of[graph.outputs[i]], minlength=count) for i in sections]
    return np.array(rows, float)
