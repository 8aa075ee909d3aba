"""Importance → ranking → order → how far to go → plan."""

from __future__ import annotations

from collections.abc import Mapping

from pruning.cut.folding import Folding
from pruning.cut.plan import Plan
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Costs, Measure
from pruning.selection.budget import turns_to_cut, turns_to_meet
from pruning.selection.importance import Model
from pruning.selection.ranking import Ranking, rank
from pruning.selection.schedule import Path
from pruning.selection.wish import Wish, check_only
from yolo.errors import PlanError
from yolo.network import State


def select(
    model: Model,
    wish: Wish,
    folding: Folding,
    measures: Mapping[str, Measure] | None = None,
    wholes: Mapping[str, float] | None = None,
) -> Plan:
    """The plan that fulfils a wish: `choose` on its path. Raises PlanError."""
    return choose(path_of(model, wish, folding), measures, wholes)


def path_of(model: Model, wish: Wish, folding: Folding) -> Path:
    """All cuts that a wish may mean, from nothing on; raises PlanError for what can't be meant."""
    wish.check()
    path = Path(model, wish, folding)
    check_only(model.graph, wish)
    return path


def choose(
    path: Path,
    measures: Mapping[str, Measure] | None = None,
    wholes: Mapping[str, float] | None = None,
) -> Plan:
    """The plan that goes as far as the path's wish asks for; raises PlanError where that can't be.

    `measures` tell for each kind of target (targets.KINDS) what a cut comes to, by default what
    Costs counts; `wholes` what shares are of, by default what the network itself comes to.
    """
    wish, graph = path.wish, path.folding.graph
    if wish.target is not None:
        measures = Costs(graph).measures() if measures is None else measures
        turns = turns_to_meet(path, wish.target, measures, wholes)
    else:
        turns = turns_to_cut(path, _channels(graph, path.ranking, wish))
    return path.at(turns).plan


def reachable(graph: ChannelGraph, state: State, wish: Wish, folding: Folding) -> float:
    """The largest percent that a strategy can cut."""
    wish.check_order()
    ranking = rank(Model(graph, state, None, wish.seed), wish, folding)
    return ranking.most / ranking.pool if ranking.pool else 0.0


def _channels(graph: ChannelGraph, ranking: Ranking, wish: Wish) -> int:
    """How many are to go for a percent; raises PlanError where that are too many."""
    assert wish.percent is not None
    pool, most = ranking.pool, ranking.most
    if wish.percent and not pool:
        raise PlanError(
            f"{graph.network.cfg.path}: {wish.strategy} finds nothing that it may cut; "
            "tools/info.py tells why for every section"
        )
    wanted = round(wish.percent * pool)
    if wanted > most:
        reach = int(most / pool * 1000) / 1000
        raise PlanError(
            f"percent {wish.percent:g} is out of reach: {wish.strategy} can cut {reach:g} "
            f"({most} of {pool} channels), keeping at least {wish.kept}"
        )
    return wanted
