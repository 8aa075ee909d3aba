"""Strategies: which families may be cut, and how far."""

from pruning.strategies.select import Wish, reachable, select
from pruning.strategies.strategies import STRATEGIES, Strategy

__all__ = ["STRATEGIES", "Strategy", "Wish", "reachable", "select"]
