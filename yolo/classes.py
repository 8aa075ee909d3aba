"""The same network for another number of classes."""

from __future__ import annotations

from yolo.cfg import Cfg
from yolo.heads.detection import Detection
from yolo.heads.region import Region
from yolo.heads.yolo import AnchorHead
from yolo.layers import Layer
from yolo.network import Network

COUNTS = {"convolutional": "filters", "connected": "output"}  # what says how much a section gives


def with_classes(cfg: Cfg, classes: int) -> Cfg:
    """A copy whose heads know `classes` classes, what feeds them as wide as that needs.

    Raises CfgError where a head isn't fed by a [convolutional] or [connected] section of its own.
    """
    network = Network(cfg)
    edits: dict[int, dict[str, object]] = {}
    for index in network.heads:
        head = network.layers[index]
        if hasattr(head, "classes"):
            edits[index] = {"classes": classes}
        feeder = network.layers[head.sources[0]] if head.is_head else head
        edits |= _feed(network, feeder, _width(head, classes))
    return cfg.edited(edits)


def _width(head: Layer, classes: int) -> int:
    """The channels that a head needs in front of it."""
    if not hasattr(head, "classes"):
        return classes
    channels = head.inputs[0].channels
    if isinstance(head, Detection):  # classes belong to a cell, not to a box
        return channels + (classes - head.classes) * head.side**2
    assert isinstance(head, (AnchorHead, Region))
    return channels // head.entries * (head.entries - head.classes + classes)


def _feed(network: Network, layer: Layer, width: int) -> dict[int, dict[str, object]]:
    """Give a section that width; what keeps its channels as they are passes the wish on."""
    key = COUNTS.get(layer.plain_type or layer.section.type)
    if key:
        return {layer.section.index: {key: width}}
    if layer.out_shape.channels != layer.inputs[0].channels or len(layer.sources) > 1:
        raise layer.section.error("feeds a head, but its width can't be changed")
    return _feed(network, network.layers[layer.sources[0]], width)
