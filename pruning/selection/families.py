"""The families that a strategy may cut, and what a spec leaves of them."""

from __future__ import annotations

import numpy as np

from pruning.graph.channels import ChannelGraph, Family, Mask
from pruning.graph.rules import has_filters
from pruning.spec import Spec
from yolo.errors import PlanError


def everything(graph: ChannelGraph) -> list[Family]:
    return list(graph.families)


def untouched(graph: ChannelGraph) -> list[Family]:
    """Families that no shortcut touches and that don't feed an upsample (Lam1360's rule)."""
    touched = graph.touched("shortcut", "upsample")
    return [family for family in graph.families if not touched[family.groups].any()]


def tiny(graph: ChannelGraph) -> list[Family]:
    """As untouched; raises PlanError where there are shortcuts."""
    for layer in graph.network.layers:
        if layer.section.type == "shortcut":
            message = "strategy tiny is for networks without shortcuts: use normal or shortcut"
            raise PlanError(str(layer.section.error(message)))
    return untouched(graph)


def families(graph: ChannelGraph, spec: Spec) -> list[Family]:
    """Those that a spec allows to be cut; raises PlanError for sections that don't exist."""
    strategy, limits = spec.entry, spec.limits
    if strategy is None or not strategy.where:
        return []
    spared = _touched(graph, _checked(graph, limits.spare, "spare"))
    selected = np.ones(graph.size, bool)
    if limits.only is not None:
        selected = _touched(graph, _checked(graph, limits.only, "only"))
    return [
        family
        for family in strategy.load()(graph)
        if selected[family.groups].any() and not spared[family.groups].any()
    ]


def prunable(graph: ChannelGraph, spec: Spec) -> Mask:
    """The groups that a percent is a share of: those that the spec allows to be cut."""
    groups = np.zeros(graph.size, bool)
    for family in families(graph, spec):
        groups[family.groups] = True
    return groups


def check_only(graph: ChannelGraph, spec: Spec) -> None:
    """Raises PlanError for a section that is to be cut, but can't be."""
    groups = prunable(graph, spec)
    for section in spec.limits.only or ():
        if not groups[graph.outputs[section]].any():
            reason = graph.reason(section)
            why = f"it {reason}" if reason else f"{spec.strategy} spares it"
            where = graph.network.cfg.layers[section]
            raise PlanError(str(where.error(f"--only {section}: can't be cut: {why}")))


def _touched(graph: ChannelGraph, sections: tuple[int, ...]) -> Mask:
    """The groups that have a channel in any of these sections' outputs."""
    touched = np.zeros(graph.size, bool)
    for section in sections:
        touched[graph.outputs[section]] = True
    return touched


def _checked(graph: ChannelGraph, sections: tuple[int, ...], option: str) -> tuple[int, ...]:
    last = len(graph.network.layers) - 1
    for section in sections:
        if not 0 <= section <= last:
            raise PlanError(f"--{option} {section}: sections are numbered from 0 to {last}")
        if not has_filters(graph.network.layers[section]):
            where = graph.network.cfg.layers[section]
            raise PlanError(str(where.error(f"--{option} {section}: has no filters to cut")))
    return sections
