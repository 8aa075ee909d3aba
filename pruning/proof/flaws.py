"""Sections that an engine is known to compute wrongly, and comparisons that do without them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from yolo.errors import CfgError
from yolo.layers import IMAGE
from yolo.network import Network

STEP = 32  # detectors take widths that it divides
Compare = Callable[[Network, Sequence[int]], float]


@dataclass(frozen=True)
class Detour:
    """A network and the sections of it to compare; `where` is part of a sentence."""

    network: Network
    sections: list[int]
    where: str


@runtime_checkable
class Flawed(Protocol):
    """An engine that is known to compute some sections wrongly; `flaw` is a sentence about them."""

    name: str
    flaw: str

    def flawed(self, network: Network) -> tuple[int, ...]:
        """The sections that some builds of the engine compute wrongly."""
        ...


def blamed(engine: Flawed, network: Network, compare: Compare, limit: float) -> int | None:
    """The first flawed section that differs, where all that isn't behind a flawed one agrees.

    `compare` returns how far engine and torch differ at sections. None where the flaw doesn't
    explain the difference.
    """
    flawed = engine.flawed(network)
    behind = _behind(network, flawed)
    first = [i for i in flawed if not behind & set(network.layers[i].sources)]
    if not first or not compare(network, untouched(engine, network)) <= limit:
        return None
    return next((i for i in first if not compare(network, [i]) <= limit), None)


def untouched(engine: Flawed, network: Network) -> list[int]:
    """The sections that feed the heads and the flawed ones, without all that a flaw reaches."""
    flawed = engine.flawed(network)
    sources = (source for i in flawed for source in network.layers[i].sources)
    gone = {IMAGE} | _behind(network, flawed)
    return [i for i in dict.fromkeys((*sources, *network.head_inputs)) if i not in gone]


def detours(engine: Flawed, networks: Sequence[Network]) -> list[Detour]:
    """The comparisons that a flaw doesn't reach, of networks for images of one size.

    All sections, for the widest images at which none is flawed; where the size can't be changed,
    the sections before the flaw.
    """
    image = networks[0].image
    for width in range((image.width - 1) // STEP * STEP, 0, -STEP):
        try:
            narrow = [network.resized(width, image.height) for network in networks]
        except CfgError:
            continue  # fully connected sections fix the size
        if not any(engine.flawed(network) for network in narrow):
            where = f"at {width}x{image.height}"
            return [Detour(network, network.head_inputs, where) for network in narrow]
    return [Detour(network, untouched(engine, network), "up to there") for network in networks]


def _behind(network: Network, flawed: Collection[int]) -> set[int]:
    """The flawed sections and all that depends on them."""
    behind = set(flawed)
    for layer in network.layers:
        if behind & set(layer.sources):
            behind.add(layer.section.index)
    return behind
