"""Strategies: which families may be cut, in which order, and how far."""

from pruning.strategies.layer import LAYER, channel_wish, check_blocks, choose_blocks, wholes
from pruning.strategies.select import choose, path_of, reachable, select
from pruning.strategies.strategies import STRATEGIES, Strategy
from pruning.strategies.wish import Wish, prunable

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
