"""Engines that we did not write, for the proof that a written model computes what ours does."""

from pruning.proof.engines.base import Engine, EngineError, Profile
from pruning.proof.engines.darknet import Darknet, find_darknet
from pruning.proof.engines.opencv import OpenCV

__all__ = ["Darknet", "Engine", "EngineError", "OpenCV", "Profile", "find_darknet"]
