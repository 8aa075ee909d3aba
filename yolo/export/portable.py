"""A network in sections that Darknet knows, for engines that read cfg and weights."""

from __future__ import annotations

from yolo.export.assembly import Assembly, Portable
from yolo.layers import IMAGE
from yolo.network import Network


def portable(network: Network, dilation: bool = True) -> Portable:
    """The network for Darknet, or for an engine without dilation=; unchanged where possible."""
    plain = network.plain()
    made = Assembly(plain, dilation)
    if plain.mean is None and not any(made.changes(layer) for layer in plain.layers):
        index_map = {i: i for i in range(IMAGE, len(plain.layers))}
        return Portable(plain, index_map, is_new=False)
    made.prepare()
    for layer in plain.layers:
        made.add(layer)
    return made.finished()
