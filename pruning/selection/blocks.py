"""The strategies that take whole residual blocks: which of them go, before channels do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from pruning.cut.blocks import Block, block_scores, residual_blocks
from pruning.cut.folding import Fold, Folding
from pruning.cut.plan import Plan
from pruning.cut.shortened import Shorter
from pruning.graph.channels import ChannelGraph
from pruning.graph.rules import has_filters
from pruning.measure.costs import Estimate, Measure
from pruning.selection.budget import turns_to_meet
from pruning.selection.schedule import Step
from pruning.selection.wish import Wish
from pruning.targets import parse_targets
from yolo.errors import PlanError
from yolo.layers.combining import Shortcut
from yolo.network import Network

LAYER = "layer"
# what cuts the channels of what is left; options.BLOCK_STRATEGIES says them in words
CHANNELS: dict[str, str | None] = {LAYER: None, "slim+layer": "slim"}
REASONS = 3  # of blocks that must stay, in a message

Measures = Callable[[Shorter, Folding], Mapping[str, Measure]]  # of the cuts of what is left


def check_blocks(wish: Wish) -> None:
    """Raises PlanError for a wish about blocks that no network could fulfil."""
    blocks, strategy = wish.blocks, wish.strategy
    if blocks is not None and strategy not in CHANNELS:
        known = ", ".join(CHANNELS)
        raise PlanError(f"blocks {blocks}: {strategy} takes no blocks; {known} do")
    if blocks is not None and blocks < 1:
        raise PlanError(f"blocks {blocks}: expected at least 1")
    if strategy == LAYER:
        bare = Wish(LAYER, 0.0, None, 1, wish.spare, wish.only, target=wish.target, blocks=blocks)
        if replace(wish, percent=wish.percent or 0.0) != bare:
            what = "a number of them or a target, spare and only are all that counts"
            raise PlanError(f"{LAYER} takes whole blocks: {what}")
        if (blocks is None) == (wish.target is None):
            raise PlanError(f"{LAYER}: expected a number of blocks or a target, and not both")
    elif strategy in CHANNELS and blocks is None:
        raise PlanError(f"{strategy}: expected a number of blocks")


def choose_blocks(network: Network, wish: Wish, measures: Measures) -> tuple[Block, ...]:
    """The blocks that a wish takes, by section; none where its strategy takes none.

    They go by rising score (blocks.block_scores). Where a target says how many, no more of them go
    than it takes. Raises PlanError where there aren't enough.
    """
    check_blocks(wish)
    if wish.strategy not in CHANNELS:
        return ()
    way = BlockWay(network, wish)
    count = wish.blocks
    if count is None:
        assert wish.target is not None
        count = turns_to_meet(way, wish.target, way.measures(measures))
    if count > len(way):
        what = f"{network.cfg.path}: {wish.strategy} can remove {len(way)}"
        raise PlanError(f"blocks {count} is out of reach: {what}")
    return way.first(count)


def channel_wish(wish: Wish, shorter: Shorter) -> Wish:
    """The wish for the channels of what is left; sections are numbered as they are there."""
    strategy = CHANNELS.get(wish.strategy, wish.strategy)
    if strategy is None or (strategy == wish.strategy and not shorter.blocks):
        return wish
    only = None if wish.only is None else _left(shorter, wish.only)
    spare = _left(shorter, wish.spare)
    return replace(wish, strategy=strategy, blocks=None, spare=spare, only=only)


def wholes(network: Network, target: str | None, measures: Measures) -> dict[str, float]:
    """What the numbers that targets bound are before anything is cut, but for what grows then."""
    names = [t.name for t in parse_targets(target) if not t.grows] if target else []
    if not names:
        return {}
    folding = Folding(ChannelGraph(network), network.state())
    measured = measures(Shorter.of(network, ()), folding)
    fold = folding.fold(np.ones(folding.graph.size, bool))
    nothing = Plan("", 0.0, {})
    return {name: _settled(measured[name], nothing, fold) for name in names if name in measured}


def _settled(measure: Measure, plan: Plan, fold: Fold) -> float:
    return measure.settle(plan, fold) if isinstance(measure, Estimate) else measure(plan, fold)


def _left(shorter: Shorter, sections: Sequence[int]) -> tuple[int, ...]:
    """Where those of some sections that have filters are in what is left."""
    found = [shorter.places[i] for i in sections if i in shorter.kept]
    return tuple(i for i in found if has_filters(shorter.network.layers[i]))


class BlockWay:
    """Blocks that go one after the other: at(3) is the network without the first three."""

    def __init__(self, network: Network, wish: Wish) -> None:
        """Raises PlanError where no block can go."""
        self.network, self.wish = network, wish
        self.blocks = _ordered(network, wish)
        self._left: dict[int, tuple[Shorter, Folding]] = {}
        self._measures: dict[int, Mapping[str, Measure]] = {}

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def limit(self) -> str:
        """What is left at its end, in words."""
        return f"without all blocks that can go ({len(self)})"

    def first(self, turns: int) -> tuple[Block, ...]:
        """The blocks that are gone by then, by section."""
        return tuple(sorted(self.blocks[:turns], key=lambda block: block.shortcut))

    def at(self, turns: int) -> Step:
        """The cut after so many turns: of what is left all channels stay."""
        _, folding = self.left(turns)
        gone = tuple(block.shortcut for block in self.first(turns))
        plan = Plan(self.wish.strategy, self.wish.percent, {}, None, self.wish.target, gone)
        return Step(plan, folding.fold(np.ones(folding.graph.size, bool)))

    def measures(self, make: Measures) -> dict[str, Measure]:
        """What tells whether a target of each kind is met."""
        return {name: partial(self._measure, make, name) for name in make(*self.left(0))}

    def _measure(self, make: Measures, name: str, plan: Plan, fold: Fold) -> float:
        turns = len(plan.blocks)
        if turns not in self._measures:
            self._measures[turns] = make(*self.left(turns))
        measure = self._measures[turns][name]
        # there are so few blocks that nothing has to be guessed
        return _settled(measure, plan, fold)

    def left(self, turns: int) -> tuple[Shorter, Folding]:
        """What is left after so many turns."""
        if turns not in self._left:
            shorter = Shorter.of(self.network, self.first(turns))
            network = shorter.network
            self._left[turns] = shorter, Folding(ChannelGraph(network), network.state())
        return self._left[turns]


def _ordered(network: Network, wish: Wish) -> list[Block]:
    """The blocks that may go, by rising score; raises PlanError where none may."""
    blocks = residual_blocks(network)
    reasons = {block.shortcut: _refusal(network, block, wish) for block in blocks}
    _check_named(network, wish, reasons)
    free = [block for block in blocks if reasons[block.shortcut] is None]
    if not free:
        raise PlanError(f"{network.cfg.path}: no block can go: {_why(reasons)}")
    scores = block_scores(network, network.state())
    found: list[Block] = []
    for block in sorted(free, key=lambda block: scores[block.shortcut]):
        if not any(block.shortcut in other.sections for other in found):  # it went with that one
            found.append(block)
    return found


def _refusal(network: Network, block: Block, wish: Wish) -> str | None:
    """Why a block must stay, be it that the wish spares it."""
    sections = set(block.sections)
    if block.reason is None and sections & set(wish.spare):
        return "it is spared"
    if block.reason is None and wish.only is not None and not sections & set(wish.only):
        return "it isn't among what may go"
    return block.reason


def _why(reasons: Mapping[int, str | None]) -> str:
    if not reasons:
        return "there is no [shortcut]"
    told = [f"that of section {i}: {why}" for i, why in reasons.items()][:REASONS]
    more = len(reasons) - len(told)
    return "; ".join([*told, f"{more} more"] if more else told)


def _check_named(network: Network, wish: Wish, reasons: Mapping[int, str | None]) -> None:
    """Raises PlanError for sections that can't be meant; a [shortcut] stands for its block."""
    last = len(network.layers) - 1
    for what, sections in (("spare", wish.spare), ("only", wish.only or ())):
        for section in sections:
            if not 0 <= section <= last:
                raise PlanError(f"--{what} {section}: sections are numbered from 0 to {last}")
            layer = network.layers[section]
            if not (has_filters(layer) or isinstance(layer, Shortcut)):
                where = layer.section
                raise PlanError(
                    str(where.error(f"--{what} {section}: neither filters nor a block"))
                )
            if what == "only" and reasons.get(section):
                raise PlanError(
                    str(layer.section.error(f"--only {section}: can't go: {reasons[section]}"))
                )
