"""References of sections to others, renumbered."""

from __future__ import annotations

from collections.abc import Mapping

from yolo.layers import Layer
from yolo.layers.base import resolve

SHARING = "share_index"  # refers to another section, too, though that doesn't feed it


def references(layer: Layer) -> dict[str, tuple[int, ...]]:
    """The sections, in Darknet's count, that each key of a section names."""
    section = layer.section
    keys = (key for key in (*layer.refers, SHARING) if section.has(key))
    return {key: tuple(resolve(section, key, i) for i in section.integers(key)) for key in keys}


def renumbered(layer: Layer, places: Mapping[int, int]) -> dict[str, object]:
    """New values for the keys that name other sections, where section i is now section places[i].

    What is relative stays relative; values that are still right aren't among them.
    """
    found: dict[str, object] = {}
    here = places[layer.section.index]
    for key, sections in references(layer).items():
        old = layer.section.integers(key)
        pairs = zip(old, sections, strict=True)
        new = tuple(places[i] - here if given < 0 else places[i] for given, i in pairs)
        if new != old:
            found[key] = ",".join(map(str, new))
    return found
