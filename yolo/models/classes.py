"""A network for another number of classes."""

from __future__ import annotations

from yolo.cfg import Cfg
from yolo.layers import Layer
from yolo.network import Network

COUNTS = {"convolutional": "filters", "connected": "output"}  # keys of the number of outputs


def with_classes(cfg: Cfg, classes: int) -> Cfg:
    """A copy whose heads have `classes` classes, with as many channels before them as that needs.

    Raises CfgError where a head isn't fed by a [convolutional] or [connected] section of its own.
    """
    network = Network(cfg)
    edits: dict[int, dict[str, object]] = {}
    for index in network.heads:
        head = network.layers[index]
        if keys := head.keys_for(classes):
            edits[index] = keys
        for source, width in head.widths(classes).items():
            edits |= _feed(network, network.layers[source], width)
    return cfg.edited(edits)


def _feed(network: Network, layer: Layer, width: int) -> dict[int, dict[str, object]]:
    """Edits that give a section this width, or the one before it if it keeps the channels."""
    key = COUNTS.get(layer.plain_type or layer.section.type)
    if key:
        return {layer.section.index: {key: width}}
    if layer.out_shape.channels != layer.inputs[0].channels or len(layer.sources) > 1:
        raise layer.section.error("feeds a head, but its width can't be changed")
    return _feed(network, network.layers[layer.sources[0]], width)
