"""A network without some of its blocks, from which a cut of channels begins."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pruning.cut.blocks import Block, remove, residual_blocks
from pruning.cut.plan import Plan
from yolo.errors import PlanError
from yolo.network import Network


@dataclass(frozen=True)
class Shorter:
    """`network` is what is left of the `whole` one without `blocks`.

    Its section `places[i]` computes what section i of the whole one did. Sections are numbered as
    in the whole network wherever a person reads or writes them.
    """

    whole: Network
    blocks: tuple[Block, ...]
    network: Network
    places: Mapping[int, int]

    @classmethod
    def of(cls, whole: Network, blocks: Sequence[Block]) -> Shorter:
        """It shares its tensors; without blocks to remove it is the whole network itself."""
        if not blocks:
            return cls(whole, (), whole, {i: i for i in range(len(whole.layers))})
        removal = remove(whole, whole.state(), blocks)
        left = Network.with_state(removal.cfg.strict(), removal.state)
        return cls(whole, tuple(blocks), left, removal.places)

    @classmethod
    def planned(cls, whole: Network, plan: Plan) -> Shorter:
        """Without the blocks that a plan names; raises PlanError for one that can't go."""
        return cls.of(whole, [_block(whole, shortcut) for shortcut in sorted(set(plan.blocks))])

    @property
    def shortcuts(self) -> tuple[int, ...]:
        """By which the blocks are named."""
        return tuple(block.shortcut for block in self.blocks)

    @functools.cached_property
    def kept(self) -> frozenset[int]:
        """The sections of the whole network that are still there."""
        return frozenset(self.places) - set(self.shortcuts)

    @functools.cached_property
    def origins(self) -> dict[int, int]:
        """What the sections that are left were: what stays of a block is its [shortcut]."""
        found: dict[int, int] = {}
        for section, place in self.places.items():
            found.setdefault(place, section)
        return found

    def inner(self, plan: Plan) -> Plan:
        """A plan in the numbers of what is left; raises PlanError for a section that isn't."""
        places = {section: place for place, section in self.origins.items()}
        return plan.renumbered(places) if self.blocks else plan

    def outer(self, plan: Plan) -> Plan:
        """The plan in the numbers of the whole network, with the blocks that go."""
        if not self.blocks:
            return plan
        return replace(plan.renumbered(self.origins), blocks=self.shortcuts)


def _block(network: Network, shortcut: int) -> Block:
    for block in residual_blocks(network):
        if block.shortcut == shortcut:
            return block
    raise PlanError(f"plan: block {shortcut}: there is no [shortcut] of this number")
