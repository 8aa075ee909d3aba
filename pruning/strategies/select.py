"""A plan from scores and a percent: the lowest slots of all candidates go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruning.channels import ChannelGraph, Family, Mask
from pruning.coupling import Ids
from pruning.importance import Scores, channel_scores, group_scores
from pruning.plan import Plan
from pruning.recover import Folding
from pruning.rules import has_filters
from pruning.strategies.strategies import STRATEGIES, touched_sections
from yolo.errors import PlanError
from yolo.network import State

LEAST_POWER = 8  # the smallest count that `regular` rounds to


@dataclass(frozen=True)
class Wish:
    """What is asked for: `percent` in [0, 1) of the candidates' channels are to go."""

    strategy: str
    percent: float
    group: str = "first"
    keep_min: int = 1
    spare: tuple[int, ...] = ()
    only: tuple[int, ...] | None = None
    rounding: int | None = None  # a multiple to round counts up to; None: the strategy's own


@dataclass(frozen=True)
class Candidate:
    """A family with its groups (parts, slots) and the slots' scores, the best first."""

    family: Family
    ranked: Ids
    scores: Scores
    floor: int  # slots with real channels that stay at least
    least: int  # slots that stay at least, a constant channel among them


def select(graph: ChannelGraph, state: State, wish: Wish, folding: Folding) -> Plan:
    """The plan that fulfils a wish; raises PlanError where it can't be reached."""
    if not 0 <= wish.percent < 1:
        raise PlanError(f"percent {wish.percent:g}: expected at least 0 and less than 1")
    if wish.keep_min < 1:
        raise PlanError(f"keep-min {wish.keep_min}: expected at least 1")
    scores = channel_scores(graph, state)
    candidates = _candidates(graph, scores, wish, folding)
    _check_only(graph, wish)
    pool = sum(c.family.cost * c.family.slots for c in candidates)
    if wish.percent > 0 and not pool:
        raise PlanError(
            f"{graph.network.cfg.path}: {wish.strategy} finds nothing that it may cut; "
            "tools/info.py tells why for every section"
        )
    target = round(wish.percent * pool)
    most = _most(candidates)
    if target > most:
        reach = int(most / pool * 1000) / 1000
        raise PlanError(
            f"percent {wish.percent:g} is out of reach: {wish.strategy} can cut {reach:g} "
            f"({most} of {pool} channels), keeping at least {wish.keep_min} of every layer"
        )
    limit = _union_limit(candidates, graph, scores, target) if wish.group == "union" else np.inf
    counts = _counts(candidates, target, limit)
    counts = [
        _rounded(c.family, count, _rounding(wish))
        for c, count in zip(candidates, counts, strict=True)
    ]
    return _plan(graph, candidates, counts, wish, folding, scores)


def reachable(graph: ChannelGraph, state: State, wish: Wish, folding: Folding) -> float:
    """The largest percent that a strategy can cut."""
    candidates = _candidates(graph, channel_scores(graph, state), wish, folding)
    pool = sum(c.family.cost * c.family.slots for c in candidates)
    return _most(candidates) / pool if pool else 0.0


def _most(candidates: list[Candidate]) -> int:
    return sum(c.family.cost * (c.family.slots - c.least) for c in candidates)


def _rounding(wish: Wish) -> int | None:
    return STRATEGIES[wish.strategy].rounding if wish.rounding is None else wish.rounding


def prunable(graph: ChannelGraph, wish: Wish) -> Mask:
    """The groups that the percent is a share of: those that the wish allows to be cut."""
    found = np.zeros(graph.size, bool)
    for family in _families(graph, wish):
        found[family.groups] = True
    return found


def _families(graph: ChannelGraph, wish: Wish) -> list[Family]:
    spared = touched_sections(graph, _known(graph, wish.spare, "spare"))
    wanted = np.ones(graph.size, bool)
    if wish.only is not None:
        wanted = touched_sections(graph, _known(graph, wish.only, "only"))
    return [
        family
        for family in STRATEGIES[wish.strategy].candidates(graph)
        if wanted[family.groups].any() and not spared[family.groups].any()
    ]


def _candidates(
    graph: ChannelGraph, scores: dict[int, Scores], wish: Wish, folding: Folding
) -> list[Candidate]:
    by_group = group_scores(graph, scores, wish.group)
    nothing = np.zeros(graph.size, bool)
    found = []
    for family in _families(graph, wish):
        groups = family.groups
        order = np.argsort(-by_group[groups], axis=1, kind="stable")
        ranked = np.take_along_axis(groups, order, 1)
        floor = min(-(-wish.keep_min // family.unit), family.slots)
        constant = folding.mode == "exact" and folding.needs(family, nothing)
        least = min(floor + constant, family.slots)
        found.append(Candidate(family, ranked, by_group[ranked].mean(0), floor, least))
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


def _check_only(graph: ChannelGraph, wish: Wish) -> None:
    """Raises PlanError for a section that is to be cut, but can't be."""
    found = prunable(graph, wish)
    for section in wish.only or ():
        if not found[graph.outputs[section]].any():
            reason = graph.reason(section)
            why = f"it {reason}" if reason else f"{wish.strategy} spares it"
            where = graph.network.cfg.layers[section]
            raise PlanError(str(where.error(f"--only {section}: can't be cut: {why}")))


def _counts(candidates: list[Candidate], target: int, limit: float) -> list[int]:
    """Slots left of each candidate after the lowest ones are gone, about `target` channels in all.

    The slot that would pass the target goes where that comes nearer to it.
    """
    if not candidates:
        return []
    number = np.repeat(np.arange(len(candidates)), [len(c.scores) for c in candidates])
    score = np.concatenate([c.scores for c in candidates])
    rank = np.concatenate([np.arange(len(c.scores)) for c in candidates])
    left = [len(c.scores) for c in candidates]
    for place in np.lexsort((-rank, score)):
        candidate = candidates[n := int(number[place])]
        if score[place] > limit:
            break
        if left[n] == candidate.least:
            continue
        if 2 * target < candidate.family.cost:
            break
        left[n] -= 1
        target -= candidate.family.cost
    return left


def _union_limit(
    candidates: list[Candidate], graph: ChannelGraph, scores: dict[int, Scores], target: int
) -> float:
    """The threshold on single channels: a group stays as long as any of its channels is above."""
    inside = np.zeros(graph.size, bool)
    for candidate in candidates:
        inside[candidate.family.groups] = True
    single = [scores[i][inside[graph.outputs[i]]] for i in graph.producers]
    ordered = np.sort(np.concatenate(single or [np.zeros(0)]))
    return float(ordered[target - 1]) if target else -np.inf


def _rounded(family: Family, count: int, rounding: int | None) -> int:
    """The smallest count of slots from `count` whose channels are a multiple or a power of two."""
    if rounding is None or count == family.slots:
        return count
    for slots in range(count, family.slots):
        channels = slots * family.unit
        if rounding and channels % rounding == 0:
            return slots
        if not rounding and channels >= LEAST_POWER and channels & (channels - 1) == 0:
            return slots
    return family.slots


def _plan(
    graph: ChannelGraph,
    candidates: list[Candidate],
    counts: list[int],
    wish: Wish,
    folding: Folding,
    scores: dict[int, Scores],
) -> Plan:
    """Fill the slots of every candidate, with a constant channel among them where one is needed."""
    alive = np.ones(graph.size, bool)
    deviation = group_scores(graph, scores, "max")
    mean = []
    for candidate, count in zip(candidates, counts, strict=True):
        if count == candidate.family.slots:
            continue
        alive[candidate.ranked[:, count:]] = False
        if not folding.needs(candidate.family, alive):
            continue
        room = count > candidate.floor
        if room and not _mean_loses_less(candidate, count, alive, folding, deviation):
            alive[candidate.ranked[:, count - 1]] = False
        elif folding.mode == "auto":
            mean.append(candidate.family.name)
    chosen = tuple(mean) if folding.mode == "auto" else None
    return Plan.of(graph, alive, wish.strategy, wish.percent, chosen)


def _mean_loses_less(
    candidate: Candidate, count: int, alive: Mask, folding: Folding, deviation: Scores
) -> bool:
    """Whether a narrow family does better with a real channel more and the mean fold."""
    if not folding.narrow(candidate.family, count):
        return False
    lost = candidate.ranked[:, count - 1]
    return folding.border_loss(candidate.family, alive) <= folding.channel_loss(lost, deviation)
