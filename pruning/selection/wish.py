"""What is asked for, and which families it allows to be cut."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass

import numpy as np

from pruning.graph.channels import ChannelGraph, Family, Mask
from pruning.graph.rules import has_filters
from pruning.options import COMPARISONS, GROUP_SCORES
from pruning.selection.importance import IMPORTANCES
from pruning.selection.strategies import STRATEGIES, Strategy
from yolo.errors import PlanError


@dataclass(frozen=True)
class Wish:
    """How far a cut goes, in which order, and what it spares.

    Either `percent` in [0, 1) of the candidates' channels are to go, or as many as fulfil `target`,
    which targets.parse_targets reads. `importance`, `group` and `compare` are names of options.py;
    `per_mac` divides a score by the MACs that go with it. Every family keeps `keep_min` channels
    and the share `layer_keep` of them. `rounding` is a multiple to round counts up to, 0 for powers
    of two. None leaves it to the strategy. Without an importance it is sensitivity after a scan,
    else least-squares where images have been seen, both per MAC, else bn. `blocks` of the residual
    blocks go first, where the strategy is one of strategies.layer.
    """

    strategy: str
    percent: float | None = None
    group: str | None = None
    keep_min: int = 1
    spare: tuple[int, ...] = ()
    only: tuple[int, ...] | None = None
    rounding: int | None = None
    _: KW_ONLY
    target: str | None = None
    importance: str | None = None
    compare: str = "global"
    per_mac: bool | None = None
    layer_keep: float | None = None
    seed: int = 0  # of the importance `random`
    blocks: int | None = None

    def check(self) -> None:
        """Raises PlanError for what no network could fulfil."""
        self.check_far()
        self.check_order()

    def check_far(self) -> None:
        """As check, of how far it goes."""
        if (self.percent is None) == (self.target is None):
            raise PlanError("expected a percent or a target, and not both")
        if self.percent is not None and not 0 <= self.percent < 1:
            raise PlanError(f"percent {self.percent:g}: expected at least 0 and less than 1")

    def check_order(self) -> None:
        """As check, whatever is asked for is large or small."""
        named: tuple[tuple[str, str | None, Collection[str]], ...] = (
            ("strategy", self.strategy, STRATEGIES),
            ("importance", self.importance, IMPORTANCES),
            ("group", self.group, GROUP_SCORES),
            ("compare", self.compare, COMPARISONS),
        )
        for what, name, known in named:
            if name is not None and name not in known:
                raise PlanError(f"{what} {name}: expected one of {', '.join(known)}")
        if self.keep_min < 1:
            raise PlanError(f"keep-min {self.keep_min}: expected at least 1")
        if self.layer_keep is not None and not 0 <= self.layer_keep <= 1:
            raise PlanError(f"layer-keep {self.layer_keep:g}: expected a share from 0 to 1")
        if self.seed < 0:
            raise PlanError(f"seed {self.seed}: expected at least 0")

    @property
    def _strategy(self) -> Strategy:
        return STRATEGIES[self.strategy]

    @property
    def group_score(self) -> str:
        return self._strategy.group if self.group is None else self.group

    @property
    def least_share(self) -> float:
        """What every family keeps of its channels."""
        return self._strategy.layer_keep if self.layer_keep is None else self.layer_keep

    @property
    def kept(self) -> str:
        """What every layer keeps, in words."""
        share = f" and a share of {self.least_share:g}" if self.least_share else ""
        return f"{self.keep_min}{share} of every layer"

    @property
    def multiple(self) -> int | None:
        """What counts are rounded to: 0 for powers of two, None where they aren't."""
        return self._strategy.rounding if self.rounding is None else self.rounding

    def families(self, graph: ChannelGraph) -> list[Family]:
        """Those that may be cut; raises PlanError for sections that can't be named."""
        spared = _touched(graph, _known(graph, self.spare, "spare"))
        wanted = np.ones(graph.size, bool)
        if self.only is not None:
            wanted = _touched(graph, _known(graph, self.only, "only"))
        return [
            family
            for family in self._strategy.candidates(graph)
            if wanted[family.groups].any() and not spared[family.groups].any()
        ]


def prunable(graph: ChannelGraph, wish: Wish) -> Mask:
    """The groups that the percent is a share of: those that the wish allows to be cut."""
    found = np.zeros(graph.size, bool)
    for family in wish.families(graph):
        found[family.groups] = True
    return found


def check_only(graph: ChannelGraph, wish: Wish) -> None:
    """Raises PlanError for a section that is to be cut, but can't be."""
    found = prunable(graph, wish)
    for section in wish.only or ():
        if not found[graph.outputs[section]].any():
            reason = graph.reason(section)
            why = f"it {reason}" if reason else f"{wish.strategy} spares it"
            where = graph.network.cfg.layers[section]
            raise PlanError(str(where.error(f"--only {section}: can't be cut: {why}")))


def _touched(graph: ChannelGraph, sections: tuple[int, ...]) -> Mask:
    """The groups that have a channel in any of these sections' outputs."""
    found = np.zeros(graph.size, bool)
    for section in sections:
        found[graph.outputs[section]] = True
    return found


def _known(graph: ChannelGraph, sections: tuple[int, ...], what: str) -> tuple[int, ...]:
    last = len(graph.network.layers) - 1
    for section in sections:
        if not 0 <= section <= last:
            raise PlanError(f"--{what} {section}: sections are numbered from 0 to {last}")
        if not has_filters(graph.network.layers[section]):
            where = graph.network.cfg.layers[section]
            raise PlanError(str(where.error(f"--{what} {section}: has no filters to cut")))
    return sections
