"""Importance → ranked candidates → schedule → how far to go → plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pruning.cut.folding import Folding
from pruning.cut.plan import Plan
from pruning.graph.channels import ChannelGraph
from pruning.measure.costs import Costs, Measure
from pruning.measure.savings import SectionRates
from pruning.measure.width_step import UNKNOWN
from pruning.registry import AUTO
from pruning.selection.budget import steps_to_cut, steps_to_meet
from pruning.selection.families import check_only
from pruning.selection.importance import Model
from pruning.selection.ranking import Ranked, rank
from pruning.selection.refine import refined
from pruning.selection.schedule import Schedule
from pruning.selection.stepped import SteppedSchedule
from pruning.spec import Percent, Spec
from yolo.errors import PlanError
from yolo.network import State


def select(
    model: Model,
    spec: Spec,
    folding: Folding,
    measures: Mapping[str, Measure] | None = None,
    originals: Mapping[str, float] | None = None,
) -> Plan:
    """The plan of a spec: `choose` on its schedule. Raises PlanError."""
    return choose(schedule_of(model, spec, folding), spec, measures, originals)


def schedule_of(
    model: Model,
    spec: Spec,
    folding: Folding,
    width_step: int = UNKNOWN,
    rates: SectionRates | None = None,
) -> Schedule:
    """All cuts that a spec may mean, from nothing on; raises PlanError for impossible ones.

    Where a spec leaves widths to the search, these are multiples of `width_step`, chosen for what
    they save by `rates`, of MACs by default.
    """
    schedule: Schedule
    if spec.round_to == AUTO:
        rates = rates or Costs(model.graph).rates()
        schedule = SteppedSchedule(model, spec, folding, width_step, rates)
    else:
        schedule = Schedule(model, spec, folding)
    check_only(model.graph, spec)
    return schedule


def choose(
    schedule: Schedule,
    spec: Spec,
    measures: Mapping[str, Measure] | None = None,
    originals: Mapping[str, float] | None = None,
) -> Plan:
    """The plan that goes as far on a schedule as a spec asks for; raises PlanError.

    `measures` compute the quantity of each kind of target (spec.KINDS), by default those that
    Costs counts; `originals` are what shares are of, by default the network's own quantities.
    """
    graph = schedule.folding.graph
    if isinstance(spec.channels, Percent):
        channels = _channels(graph, schedule.ranked, spec, spec.channels.share)
        steps = steps_to_cut(schedule, channels)
    else:
        measures = Costs(graph).measures() if measures is None else measures
        steps = steps_to_meet(schedule, spec.targets, measures, originals)
        if isinstance(schedule, SteppedSchedule):
            found = refined(schedule, steps, spec.targets, measures, originals)
            return replace(found.plan, percent=spec.percent, target=spec.target)
    return replace(schedule.at(steps).plan, percent=spec.percent, target=spec.target)


def reachable(graph: ChannelGraph, state: State, spec: Spec, folding: Folding) -> float:
    """The largest percent that a spec's strategy can cut."""
    ranked = rank(Model(graph, state, None, spec.ranking.seed), spec, folding)
    return ranked.most / ranked.pool if ranked.pool else 0.0


def _channels(graph: ChannelGraph, ranked: Ranked, spec: Spec, share: float) -> int:
    """How many are to go for a percent; raises PlanError where that are too many."""
    pool, most = ranked.pool, ranked.most
    if share and not pool:
        raise PlanError(
            f"{graph.network.cfg.path}: {spec.strategy} finds nothing that it may cut; "
            "tools/info.py says why for every section"
        )
    count = round(share * pool)
    if count > most:
        reach = int(most / pool * 1000) / 1000
        raise PlanError(
            f"percent {share:g} is out of reach: {spec.strategy} can cut {reach:g} "
            f"({most} of {pool} channels), keeping at least {spec.kept}"
        )
    return count
