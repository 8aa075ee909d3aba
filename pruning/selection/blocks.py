"""Whole residual blocks: how much they matter, and which of them go before channels do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from pruning.cut.blocks import Block, residual_blocks, root_sources
from pruning.cut.folding import Fold, Folding
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shortened
from pruning.graph.channels import ChannelGraph
from pruning.graph.rules import has_filters
from pruning.measure.costs import Estimate, Measure
from pruning.selection.budget import steps_to_meet
from pruning.selection.importance import Scores, channel_scores
from pruning.selection.schedule import Step
from pruning.spec import Blocks, Limits, Spec, Target
from yolo.errors import PlanError
from yolo.layers.combining import Sam, ScaleChannels, Shortcut
from yolo.network import Network, State

REASONS = 3  # of blocks that must stay, in a message

MeasuresOf = Callable[[Shortened, Folding], Mapping[str, Measure]]  # of the cuts of what is left


def block_scores(network: Network, state: State) -> dict[int, float]:
    """How much each block that can go adds to its skip, by its shortcut.

    It is the mean score of the channels that its branch ends with: of |γ|, without BN of the
    filters' L2 norms; infinite for a branch without filters, which nothing is known of. As
    tanluren's layer pruning, layer_prune.py.
    """
    channels = channel_scores(ChannelGraph(network), state)
    return {
        block.shortcut: _score(network, block, channels)
        for block in residual_blocks(network)
        if block.reason is None
    }


def _score(network: Network, block: Block, channels: Mapping[int, Scores]) -> float:
    roots = root_sources(network, network.layers[block.shortcut])
    ends = {i for root in roots if root != block.skip for i in _ends(network, block, root)}
    owners = (network.layers[i].owner or network.layers[i] for i in sorted(ends))
    values = [channels[layer.section.index] for layer in owners]
    total = sum(float(scores.sum()) for scores in values)
    return total / sum(map(len, values)) if values else math.inf


def _ends(network: Network, block: Block, section: int) -> set[int]:
    """The sections with filters that a branch ends with, behind what has none."""
    layer = network.layers[section]
    if section not in block.sections:
        return set()
    if has_filters(layer):
        return {section}
    # of a product the factor, its first source, isn't what is added
    sources = layer.sources[1:] if isinstance(layer, ScaleChannels | Sam) else layer.sources
    return {i for source in sources for i in _ends(network, block, source)}


def choose_blocks(network: Network, spec: Spec, measures: MeasuresOf) -> tuple[Block, ...]:
    """The blocks that a spec takes, by section; none where its strategy takes none.

    They go by rising score (block_scores). Where targets say how many, no more of them go than
    these take. Raises PlanError where there aren't enough.
    """
    strategy = spec.entry
    if strategy is None or not strategy.takes_blocks:
        return ()
    schedule = BlockSchedule(network, spec)
    if isinstance(spec.amount, Blocks):
        count = spec.amount.count
    else:
        count = steps_to_meet(schedule, spec.targets, schedule.measures(measures))
    if count > len(schedule):
        reach = f"{network.cfg.path}: {spec.strategy} can remove {len(schedule)}"
        raise PlanError(f"blocks {count} is out of reach: {reach}")
    return schedule.first(count)


def spec_without_blocks(spec: Spec, shortened: Shortened) -> Spec:
    """The spec for the channels of what is left, with sections numbered as they are there."""
    if not shortened.blocks:
        return spec
    index_map = {i: shortened.index_map[i] for i in shortened.kept}
    layers = shortened.network.layers
    with_filters = {i: index for i, index in index_map.items() if has_filters(layers[index])}
    return replace(spec, limits=spec.limits.renumbered(with_filters))


def original_quantities(
    network: Network, targets: Sequence[Target], measures: MeasuresOf
) -> dict[str, float]:
    """The quantities that targets bound, before anything is cut; not those that grow with a cut."""
    names = [target.name for target in targets if not target.grows]
    if not names:
        return {}
    folding = Folding(ChannelGraph(network), network.state())
    available = measures(Shortened.of(network), folding)
    fold = folding.fold(np.ones(folding.graph.size, bool))
    nothing = Plan("", 0.0, {})
    return {name: _measured(available[name], nothing, fold) for name in names if name in available}


def _measured(measure: Measure, plan: Plan, fold: Fold) -> float:
    return measure.measure(plan, fold) if isinstance(measure, Estimate) else measure(plan, fold)


class BlockSchedule:
    """Blocks that go one after the other: at(3) is the network without the first three."""

    def __init__(self, network: Network, spec: Spec) -> None:
        """Raises PlanError where no block can go."""
        self.network, self.spec = network, spec
        self.blocks = _ordered(network, spec.limits)
        self._remaining: dict[int, tuple[Shortened, Folding]] = {}
        self._measures: dict[int, Mapping[str, Measure]] = {}

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def limit(self) -> str:
        """The limit at its end, in words."""
        return f"without all blocks that can go ({len(self)})"

    def first(self, steps: int) -> tuple[Block, ...]:
        """The blocks that are gone by then, by section."""
        return tuple(sorted(self.blocks[:steps], key=lambda block: block.shortcut))

    def at(self, steps: int) -> Step:
        """The cut after so many steps: of what is left all channels stay."""
        _, folding = self.remaining(steps)
        removed = tuple(block.shortcut for block in self.first(steps))
        plan = Plan(self.spec.strategy, self.spec.percent, {}, None, self.spec.target, removed)
        return Step(plan, folding.fold(np.ones(folding.graph.size, bool)))

    def measures(self, make: MeasuresOf) -> dict[str, Measure]:
        """A Measure for each kind of target."""
        return {name: partial(self._measure, make, name) for name in make(*self.remaining(0))}

    def _measure(self, make: MeasuresOf, name: str, plan: Plan, fold: Fold) -> float:
        steps = len(plan.blocks)
        if steps not in self._measures:
            self._measures[steps] = make(*self.remaining(steps))
        measure = self._measures[steps][name]
        # there are so few blocks that nothing has to be guessed
        return _measured(measure, plan, fold)

    def remaining(self, steps: int) -> tuple[Shortened, Folding]:
        """The network that is left after so many steps."""
        if steps not in self._remaining:
            shortened = Shortened.of(self.network, self.first(steps))
            network = shortened.network
            self._remaining[steps] = shortened, Folding(ChannelGraph(network), network.state())
        return self._remaining[steps]


def _ordered(network: Network, limits: Limits) -> list[Block]:
    """The blocks that may go, by rising score; raises PlanError where none may."""
    blocks = residual_blocks(network)
    reasons = {block.shortcut: _refusal(block, limits) for block in blocks}
    _check_named(network, limits, reasons)
    free = [block for block in blocks if reasons[block.shortcut] is None]
    if not free:
        raise PlanError(f"{network.cfg.path}: no block can go: {_why(reasons)}")
    scores = block_scores(network, network.state())
    ordered: list[Block] = []
    for block in sorted(free, key=lambda block: scores[block.shortcut]):
        if not any(block.shortcut in other.sections for other in ordered):  # it went with that one
            ordered.append(block)
    return ordered


def _refusal(block: Block, limits: Limits) -> str | None:
    """The reason why a block must stay, be it that it is spared."""
    sections = set(block.sections)
    if block.reason is None and sections & set(limits.spare):
        return "it is spared"
    if block.reason is None and limits.only is not None and not sections & set(limits.only):
        return "it isn't among what may go"
    return block.reason


def _why(reasons: Mapping[int, str | None]) -> str:
    if not reasons:
        return "there is no [shortcut]"
    listed = [f"that of section {i}: {why}" for i, why in reasons.items()][:REASONS]
    more = len(reasons) - len(listed)
    return "; ".join([*listed, f"{more} more"] if more else listed)


def _check_named(network: Network, limits: Limits, reasons: Mapping[int, str | None]) -> None:
    """Raises PlanError for sections that can't be meant; a [shortcut] stands for its block."""
    last = len(network.layers) - 1
    for option, sections in (("spare", limits.spare), ("only", limits.only or ())):
        for section in sections:
            if not 0 <= section <= last:
                raise PlanError(f"--{option} {section}: sections are numbered from 0 to {last}")
            layer = network.layers[section]
            if not (has_filters(layer) or isinstance(layer, Shortcut)):
                where = layer.section
                raise PlanError(
                    str(where.error(f"--{option} {section}: neither filters nor a block"))
                )
            if option == "only" and reasons.get(section):
                raise PlanError(
                    str(layer.section.error(f"--only {section}: can't go: {reasons[section]}"))
                )
