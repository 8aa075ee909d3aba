"""Strategies: which families may be cut, in which order, and how far."""

from pruning.selection.blocks import LAYER, channel_wish, check_blocks, choose_blocks, wholes
from pruning.selection.select import choose, path_of, reachable, select
from pruning.selection.strategies import STRATEGIES, Strategy
from pruning.selection.wish import Wish, prunable

__all__ = [
    "LAYER",
    "STRATEGIES",
    "Strategy",
    "Wish",
    "channel_wish",
    "check_blocks",
    "choose",
    "choose_blocks",
    "path_of",
    "prunable",
    "reachable",
    "select",
    "wholes",
]
