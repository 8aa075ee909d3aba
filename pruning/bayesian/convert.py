"""A cfg whose convolutional and connected sections become Bayesian."""

from __future__ import annotations

from collections.abc import Collection

from pruning.graph.channels import ChannelGraph
from yolo.cfg import Cfg
from yolo.errors import PlanError
from yolo.layers import IMAGE, Layer
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.network import Network

# width up to which a convolution's variances are clipped to this (the VGG recipe of Louizos et
# al., who name 64, 128 and 256), and what the first of the fully connected layers of LeNet has
NARROWEST, CLIPPED = 64, ((128, 0.1), (256, 0.2))
CLIPPED_PIXELS = 0.04


def with_posteriors(cfg: Cfg, prior: str = "gnj", spare: Collection[int] = ()) -> Cfg:
    """The cfg with [bayesian_…] sections, those at the indices `spare` excepted.

    Convolutions whose filters can't go, as those in front of boxes, stay plain; so do those that
    share their weights. Raises PlanError where there is no such section, or none to convert.
    """
    network = Network(cfg)
    last = len(network.layers) - 1
    for index in spare:
        if not 0 <= index <= last:
            raise PlanError(f"--spare {index}: sections are numbered from 0 to {last}")
    graph = ChannelGraph(network)
    shared = {layer.owner.section.index for layer in network.layers if layer.owner}
    fading = [
        layer
        for i, layer in enumerate(network.layers)
        if type(layer) is Connected
        or (type(layer) is Convolutional and not graph.reason(i) and not layer.owner)
    ]
    layers = {
        layer.section.index: layer
        for layer in fading
        if layer.section.index not in (*spare, *shared)
    }
    if not layers:
        raise PlanError(f"{cfg.path}: no section that could become Bayesian")
    types = {i: f"bayesian_{layer.section.type}" for i, layer in layers.items()}
    return cfg.retyped(types).edited({i: _keys(layer, prior) for i, layer in layers.items()})


def _keys(layer: Layer, prior: str) -> dict[str, object]:
    keys: dict[str, object] = {"prior": prior}
    clip = next((clip for most, clip in CLIPPED if layer.out_shape.channels <= most), None)
    if isinstance(layer, Connected):
        clip = CLIPPED_PIXELS if layer.sources == (IMAGE,) else None
    elif layer.out_shape.channels < NARROWEST:
        clip = None
    return keys if clip is None else keys | {"clip_var": clip}
