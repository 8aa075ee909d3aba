"""References of sections to other sections, and their renumbering."""

from __future__ import annotations

from collections.abc import Mapping

from yolo.layers import Layer
from yolo.layers.base import resolve

SHARING = "share_index"  # refers to a section that doesn't feed it


def references(layer: Layer) -> dict[str, tuple[int, ...]]:
    """The absolute indices of the sections that each key of a section names."""
    section = layer.section
    keys = (key for key in (*layer.refers, SHARING) if section.has(key))
    return {key: tuple(resolve(section, key, i) for i in section.integers(key)) for key in keys}


def renumbered(layer: Layer, index_map: Mapping[int, int]) -> dict[str, object]:
    """New values for the keys that name other sections, where section i becomes index_map[i].

    Relative indices stay relative; unchanged values are left out.
    """
    edits: dict[str, object] = {}
    here = index_map[layer.section.index]
    for key, sections in references(layer).items():
        old = layer.section.integers(key)
        pairs = zip(old, sections, strict=True)
        new = tuple(index_map[i] - here if value < 0 else index_map[i] for value, i in pairs)
        if new != old:
            edits[key] = ",".join(map(str, new))
    return edits
