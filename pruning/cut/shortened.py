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
class Shortened:
    """`network` is the `original` without `blocks`.

    Its section `index_map[i]` computes what section i of the original does. Sections are numbered
    as in the original wherever a person reads or writes them.
    """

    original: Network
    blocks: tuple[Block, ...]
    network: Network
    index_map: Mapping[int, int]

    @classmethod
    def of(cls, original: Network, blocks: Sequence[Block] = ()) -> Shortened:
        """Without these blocks; it shares its tensors, and without blocks it is the original."""
        if not blocks:
            return cls(original, (), original, {i: i for i in range(len(original.layers))})
        removal = remove(original, original.state(), blocks)
        network = Network.with_state(removal.cfg.strict(), removal.state)
        return cls(original, tuple(blocks), network, removal.index_map)

    @classmethod
    def planned(cls, original: Network, plan: Plan) -> Shortened:
        """Without the blocks that a plan names; raises PlanError for one that can't go."""
        return cls.of(
            original, [_block(original, shortcut) for shortcut in sorted(set(plan.blocks))]
        )

    @property
    def shortcuts(self) -> tuple[int, ...]:
        """The [shortcut]s that name the blocks."""
        return tuple(block.shortcut for block in self.blocks)

    @functools.cached_property
    def kept(self) -> frozenset[int]:
        """The sections of the original that are still there."""
        return frozenset(self.index_map) - set(self.shortcuts)

    @functools.cached_property
    def origins(self) -> dict[int, int]:
        """The original's section of each that is left; what stays of a block is its [shortcut]."""
        origins: dict[int, int] = {}
        for section, index in self.index_map.items():
            origins.setdefault(index, section)
        return origins

    def inner(self, plan: Plan) -> Plan:
        """A plan in the numbers of what is left; raises PlanError for a section that isn't."""
        index_map = {section: i for i, section in self.origins.items()}
        return plan.renumbered(index_map) if self.blocks else plan

    def outer(self, plan: Plan) -> Plan:
        """The plan in the numbers of the original, with the blocks that go."""
        if not self.blocks:
            return plan
        return replace(plan.renumbered(self.origins), blocks=self.shortcuts)


def _block(network: Network, shortcut: int) -> Block:
    for block in residual_blocks(network):
        if block.shortcut == shortcut:
            return block
    raise PlanError(f"plan: block {shortcut}: there is no [shortcut] of this number")
