"""A network assembled from sections of another one and new ones, all of which Darknet knows.

A section that Darknet doesn't know is replaced by its layer's `substitutes`; image_mean= and
image_scale= of [net] become a depthwise convolution in front. For engines without dilation=,
kernels are widened with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

from yolo.cfg import Cfg
from yolo.layers import IMAGE, Layer
from yolo.layers.convolutional import Convolutional
from yolo.layers.references import SHARING, renumbered
from yolo.layers.written import Written, affine, route
from yolo.network import PREPARATION, Network, State


@dataclass(frozen=True)
class Portable:
    """A network for an engine, with an index map from the original.

    Section i of the original is computed by section `places[i]` of `network`.
    """

    network: Network
    places: Mapping[int, int]
    is_new: bool = True  # False where nothing had to be changed

    def cfg_like(self, cfg: Cfg) -> Cfg:
        """The new cfg, or `cfg`, a form of the original's, where nothing had to be changed."""
        return self.network.cfg.strict() if self.is_new else cfg


class Assembly:
    """A cfg in the making, from sections of a network and new ones, with its `index_map`."""

    def __init__(self, network: Network, dilation: bool, net: str | None = None) -> None:
        self.network, self.dilation, self.net = network, dilation, net
        self.index_map = {IMAGE: IMAGE}
        self.parts: list[str | Layer] = []
        self.state: State = {}

    def changes(self, layer: Layer) -> bool:
        """True for a section that must be changed."""
        foreign = layer.is_left_out or layer.substitutes() is not None
        return foreign or not layer.in_darknet or self._is_widened(layer)

    def prepare(self) -> None:
        """Write image_mean= and image_scale= of [net] as a section; later padding still is 0."""
        network = self.network
        if network.mean is None:
            return
        mean, channels = torch.tensor(network.mean), network.image.channels
        gain = torch.full((channels,), 255 * network.scale)
        self._append(affine(gain, -mean * network.scale))
        self.index_map[IMAGE] = len(self.parts) - 1

    def add(self, layer: Layer) -> None:
        """Add a section, or its substitutes; raises CfgError for one that Darknet doesn't know."""
        if layer.is_left_out:
            return
        substitutes = layer.substitutes()
        if substitutes is None and not layer.in_darknet:
            raise layer.section.error("Darknet and OpenCV don't know it, and nothing stands for it")
        if substitutes is None:
            self.copy(layer)
        else:
            self._connect(layer)
            self.write(layer, substitutes)

    def write(self, layer: Layer, parts: Iterable[Written]) -> None:
        """Add new sections that replace one."""
        for part in parts:
            self._append(part)
        self.index_map[layer.section.index] = len(self.parts) - 1

    def copy(self, layer: Layer) -> None:
        """Add a section with its tensors."""
        self._connect(layer)
        index = layer.section.index
        self.index_map[index] = len(self.parts)
        holder = layer.owner if layer.owner and not self.dilation else layer
        tensors = {name: tensor.detach() for name, tensor in holder.stored().items()}
        if "weights" in tensors and self._is_widened(layer):
            tensors["weights"] = _widened(tensors["weights"], layer.dilation)
        if tensors:
            self.state[len(self.parts)] = tensors
        self.parts.append(layer)

    def finished(self) -> Portable:
        """The assembled network; raises CfgError where the sections don't form one."""
        cfg = self.network.cfg
        kept = [part for part in self.parts if isinstance(part, Layer)]
        moved = cfg.edited({part.section.index: self._edits(part) for part in kept})
        net = self.net or moved.source(moved.net, PREPARATION)
        texts = (
            part
            if isinstance(part, str)
            else moved.source(moved.layers[part.section.index], self._dropped)
            for part in self.parts
        )
        text = "\n\n".join(part.strip() for part in (net, *texts)) + "\n"
        made = Cfg(text.encode("utf-8", "surrogateescape"), cfg.path)
        return Portable(Network.with_state(made, self.state), self.index_map)

    @property
    def _dropped(self) -> tuple[str, ...]:
        """Keys that no section keeps: a widened kernel isn't shared."""
        return () if self.dilation else (SHARING,)

    def _append(self, part: Written) -> None:
        if part.tensors:
            self.state[len(self.parts)] = dict(part.tensors)
        self.parts.append(part.text)

    def _connect(self, layer: Layer) -> None:
        """Add a [route] where the section before isn't the one that fed this one."""
        before = self.index_map[layer.section.index - 1] if layer.follows else len(self.parts) - 1
        if before != len(self.parts) - 1:
            self.parts.append(route(before))

    def _edits(self, layer: Layer) -> dict[str, object]:
        edits = renumbered(layer, self.index_map)
        if self._is_widened(layer):
            reach, padding = layer.dilation * (layer.size - 1) + 1, layer.padding * layer.dilation
            edits |= {"size": reach, "pad": 0, "padding": padding, "dilation": 1}
        return edits

    def _is_widened(self, layer: Layer) -> TypeGuard[Convolutional]:
        return not self.dilation and isinstance(layer, Convolutional) and layer.dilation > 1


def _widened(weights: Tensor, dilation: int) -> Tensor:
    """Dilated weights (n, c, k, k) as a larger kernel with zeros between them."""
    reach = dilation * (weights.shape[-1] - 1) + 1
    wide = weights.new_zeros(*weights.shape[:2], reach, reach)
    wide[:, :, ::dilation, ::dilation] = weights
    return wide
