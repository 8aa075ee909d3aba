"""Strategies: which families may be cut, in which order, and how far."""

from pruning.strategies.select import reachable, select
from pruning.strategies.strategies import STRATEGIES, Strategy
from pruning.strategies.wish import Wish, prunable

__all__ = ["STRATEGIES", "Strategy", "Wish", "prunable", "reachable", "select"]
