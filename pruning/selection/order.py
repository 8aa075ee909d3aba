"""The order in which slots go: which of them are compared with each other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from pruning.graph.rules.coupling import Ids
from pruning.registry import COMPARISONS
from pruning.selection.importance import Model, Scores
from pruning.selection.ranking import Candidate, Ranked

Forms = list[Hashable]  # of every candidate: slots of equal ones are compared


def all_alike(model: Model, candidates: Sequence[Candidate]) -> Forms:
    return [0] * len(candidates)


def by_layer(model: Model, candidates: Sequence[Candidate]) -> Forms:
    return list(range(len(candidates)))


def by_shape(model: Model, candidates: Sequence[Candidate]) -> Forms:
    """The shapes of all weights that make a family's channels, and of all that use them.

    Fang et al., Isomorphic Pruning for Vision Models (ECCV 2024).
    """
    layers, owner = model.graph.network.layers, np.full(model.graph.size, -1)
    for n, candidate in enumerate(candidates):
        owner[candidate.family.groups] = n
    uses: list[list[Hashable]] = [[] for _ in candidates]
    for i, layer in enumerate(layers):
        if layer.mixes:
            owners, count = np.unique(owner[model.graph.inputs[i][0]], return_counts=True)
            for n, channels in zip(owners.tolist(), count.tolist(), strict=True):
                if n >= 0:
                    uses[n].append((layer.section.type, *model.weights(i).shape, channels))
    forms: Forms = []
    for candidate, users in zip(candidates, uses, strict=True):
        family = candidate.family
        makers = [(layers[i].section.type, *model.weights(i).shape) for i in family.sections]
        forms.append((family.groups.shape, family.cost, tuple(makers), tuple(users)))
    return forms


def order(model: Model, ranking: Ranked, compare: str, union: float | None = None) -> Ids:
    """The number of the candidate that loses its worst slot, step by step: (steps,)

    Candidates that are compared lose those with the lowest scores, all such sets of them the same
    share of their channels at every step. `union` ends the order where a group has a channel above
    the threshold that this share of its set's single channels doesn't pass.
    """
    candidates = ranking.candidates
    if not candidates:
        return np.zeros(0, np.int64)
    forms = COMPARISONS[compare].load()(model, candidates)
    numbers = {form: n for n, form in enumerate(dict.fromkeys(forms))}
    sets = np.array([numbers[form] for form in forms])
    limit = np.full(len(numbers), np.inf)
    if union is not None:
        limit = np.array([_threshold(model, ranking, sets == n, union) for n in range(len(limit))])

    number = np.repeat(np.arange(len(candidates)), [len(c.scores) for c in candidates])
    score = np.concatenate([c.scores for c in candidates])
    rank = np.concatenate([np.arange(len(c.scores)) for c in candidates])
    least = np.array([c.least for c in candidates])
    goes = np.flatnonzero((rank >= least[number]) & (score <= limit[sets[number]]))
    goes = goes[np.lexsort((-rank[goes], score[goes], sets[number[goes]]))]
    channels = np.array([c.channels for c in candidates])
    share = _shares(sets, channels, np.array([c.family.cost for c in candidates]), number[goes])
    return number[goes[np.argsort(share, kind="stable")]]


def _shares(sets: Ids, channels: Ids, cost: Ids, number: Ids) -> Scores:
    """The share of its set's channels that is gone when half of a slot is.

    `number` (slots,) are the candidates of slots that go, sorted by set.
    """
    mine, done = sets[number], np.cumsum(cost[number])
    before = np.concatenate(([0], done))[np.searchsorted(mine, mine)]
    return (done - before - cost[number] / 2) / np.bincount(sets, channels)[mine]


def _threshold(model: Model, ranking: Ranked, chosen: np.ndarray, share: float) -> float:
    """The score at this quantile of the single channels of the chosen candidates."""
    inside = np.zeros(model.graph.size, bool)
    for candidate, is_chosen in zip(ranking.candidates, chosen, strict=True):
        if is_chosen:
            inside[candidate.family.groups] = True
    outputs = model.graph.outputs
    single = [values[inside[outputs[i]]] for i, values in ranking.importance.channels.items()]
    ordered = np.sort(np.concatenate(single or [np.zeros(0)]))
    target = round(share * len(ordered))
    return float(ordered[target - 1]) if target else -np.inf
