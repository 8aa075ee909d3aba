"""Strategies: which families may be cut, and how far."""

from pruning.strategies.select import Wish, prunable, reachable, select
from pruning.strategies.strategies import STRATEGIES, Strategy

__all__ = ["STRATEGIES", "Strategy", "Wish", "prunable", "reachable", "select"]
