"""Engines that we did not write, for the proof that a written model computes what ours does."""

from pruning.engines.base import Engine, EngineError, Profile
from pruning.engines.darknet import Darknet, find_darknet
from pruning.engines.opencv import OpenCV

__all__ = ["Darknet", "Engine", "EngineError", "OpenCV", "Profile", "find_darknet"]
