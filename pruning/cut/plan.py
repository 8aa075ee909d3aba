"""The plan: kept channels of every section, as data to look at, change, save and apply."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pruning.graph.channels import ChannelGraph, Mask
from pruning.graph.rules import has_filters
from yolo.errors import PlanError
from yolo.files import write_file
from yolo.records import read_record, record

KIND, SCHEMA = "pruning plan", 2

Name = tuple[int, int]  # of a family


@dataclass(frozen=True)
class Plan:
    """The kept output channels of every convolutional or connected section that is cut.

    `blocks` are the [shortcut]s whose residual blocks go as a whole, before channels do; what stays
    of one is named as its [shortcut]. Constant channels aren't listed. `mean` names the families,
    by section and channel, so narrow that their constants are folded by their mean; None leaves
    that to whoever applies the plan. `percent` is None where it was made for a `target`
    (spec.Targets).
    """

    strategy: str
    percent: float | None
    keep: Mapping[int, tuple[int, ...]] = field(repr=False)
    mean: tuple[Name, ...] | None = None
    target: str | None = None
    blocks: tuple[int, ...] = ()

    def to_json(self) -> str:
        amount = {"percent": self.percent, "target": self.target}
        data: dict[str, object] = {"strategy": self.strategy}
        data |= {name: value for name, value in amount.items() if value is not None}
        if self.blocks:
            data["blocks"] = list(self.blocks)
        if self.mean is not None:
            data["mean"] = list(self.mean)
        data["keep"] = {}
        head = record(KIND, SCHEMA, data)
        rows = (f'    "{section}": {list(kept)}' for section, kept in sorted(self.keep.items()))
        return head.replace('"keep": {}', '"keep": {\n' + ",\n".join(rows) + "\n  }")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write atomically; raises DarknetError."""
        write_file(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Raises PlanError for a file that isn't a plan."""
        return read_record(path, KIND, SCHEMA, cls._parsed, PlanError)

    @classmethod
    def _parsed(cls, data: Mapping[str, Any]) -> Plan:
        keep = {int(section): _channels(kept) for section, kept in data["keep"].items()}
        mean, percent, target = (data.get(key) for key in ("mean", "percent", "target"))
        if not isinstance(target, str | None):
            raise TypeError("expected a text")
        return cls(
            str(data["strategy"]),
            None if percent is None and target is not None else float(data["percent"]),
            keep,
            None if mean is None else tuple(_name(name) for name in mean),
            target,
            _channels(data.get("blocks", [])),
        )

    @classmethod
    def of(
        cls,
        graph: ChannelGraph,
        alive: Mask,
        strategy: str,
        percent: float | None,
        mean: tuple[Name, ...] | None = None,
        target: str | None = None,
    ) -> Plan:
        """The plan that keeps these groups."""
        keep = {}
        for i, layer in enumerate(graph.network.layers):
            kept = np.flatnonzero(alive[graph.outputs[i]])
            if has_filters(layer) and len(kept) < layer.out_shape.channels:
                keep[i] = tuple(kept.tolist())
        return cls(strategy, percent, keep, mean, target)

    def renumbered(self, index_map: Mapping[int, int]) -> Plan:
        """The plan for a network in which sections have other indices.

        Raises PlanError for a section that isn't there.
        """
        named = {*self.keep, *(section for section, _ in self.mean or ())}
        for section in sorted(named - index_map.keys()):
            raise PlanError(f"plan: section {section} doesn't exist, or goes with a block")
        keep = {index_map[section]: kept for section, kept in self.keep.items()}
        mean = self.mean and tuple((index_map[section], channel) for section, channel in self.mean)
        return replace(self, keep=keep, mean=mean)

    def alive(self, graph: ChannelGraph) -> Mask:
        """The groups that the plan keeps; raises PlanError for one that the graph can't follow."""
        alive = np.ones(graph.size, bool)
        for section, kept in self.keep.items():
            self._check(graph, section, kept)
            ids = graph.outputs[section]
            alive[np.delete(ids, kept)] = False
        for section in self.keep:
            self._agree(graph, section, alive)
        names = {family.name for family in graph.families}
        for section, channel in self.mean or ():
            if (section, channel) not in names:
                raise PlanError(f"plan: no family begins at channel {channel} of {section}")
        for family in graph.families:
            counts = alive[family.groups].sum(1)
            if len(set(counts.tolist())) > 1 or not counts.all():
                where = graph.network.cfg.layers[family.sections[0]]
                problem = (
                    "no channel" if not counts.all() else f"parts of {counts.tolist()} channels"
                )
                raise PlanError(str(where.error(f"plan: {problem} would be left of it")))
        return alive

    def _check(self, graph: ChannelGraph, section: int, kept: tuple[int, ...]) -> None:
        layers = graph.network.layers
        if not 0 <= section < len(layers):
            raise PlanError(f"plan: section {section} of {len(layers)} doesn't exist")
        where, width = layers[section].section, layers[section].out_shape.channels
        if not has_filters(layers[section]):
            raise PlanError(str(where.error("plan: only filters can be cut, this has none")))
        if list(kept) != sorted(set(kept)) or any(not 0 <= c < width for c in kept):
            raise PlanError(
                str(where.error(f"plan: expected ascending channels from 0 to {width - 1}"))
            )
        cut = np.delete(graph.outputs[section], kept)
        if graph.pinned[cut].any():
            reason = graph.reason(section)
            problem = f"can't be cut: it {reason}" if reason else "some of what it cuts must stay"
            raise PlanError(str(where.error(f"plan: {problem}")))

    def _agree(self, graph: ChannelGraph, section: int, alive: Mask) -> None:
        kept = np.flatnonzero(alive[graph.outputs[section]])
        if tuple(kept.tolist()) != self.keep[section]:
            where = graph.network.cfg.layers[section]
            raise PlanError(
                str(where.error("plan: another section that is tied to it keeps other channels"))
            )


def _channels(kept: object) -> tuple[int, ...]:
    if not isinstance(kept, list) or any(type(c) is not int for c in kept):
        raise TypeError("expected a list of integers")
    return tuple(kept)


def _name(value: object) -> Name:
    section, channel = _channels(value)
    return section, channel
