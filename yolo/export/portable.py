"""A network in sections that Darknet knows, for engines that read cfg and weights.

[ssd] is left out: what enters it is the result. [l2norm] becomes a [normalization] over all
channels and a depthwise convolution with its factors; image_mean= and image_scale= of [net]
are one in front of all others. For engines without dilation= kernels are as large as they reach,
with zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolo.cfg import Cfg
from yolo.heads.ssd import Ssd
from yolo.layers import IMAGE, Layer
from yolo.layers.convolutional import Convolutional
from yolo.layers.l2norm import L2Norm
from yolo.layers.references import SHARING, depthwise, renumbered, route
from yolo.network import PREPARATION, Network, State

NORMALIZATION = """[normalization]
size={size}
alpha=1
beta=0.5
kappa={eps:g}"""


@dataclass(frozen=True)
class Portable:
    """`network` computes the output of section i of the original in its section `places[i]`."""

    network: Network
    places: Mapping[int, int]
    is_new: bool = True  # whether anything had to be changed

    def cfg_like(self, cfg: Cfg) -> Cfg:
        """`cfg`, the original's in some form, where nothing had to be changed; else the new one."""
        return self.network.cfg.strict() if self.is_new else cfg


Floats = NDArray[np.float32]
Compute = Callable[[Portable, Floats, Sequence[int]], dict[int, Floats]]


@dataclass(frozen=True)
class Tail:
    """What stands behind an [l2norm], for engines that have no [normalization].

    The input of `portable` is that of section `source`, divided by √(Σx² + eps) over the channels.
    """

    source: int
    eps: float
    portable: Portable


def portable(network: Network, dilation: bool = True) -> Portable:
    """The network for Darknet, one with `dilation=` or without; the same where that will do."""
    plain = network.plain()
    if plain.mean is None and not any(_is_foreign(layer, dilation) for layer in plain.layers):
        places = {i: i for i in range(IMAGE, len(plain.layers))}
        return Portable(plain, places, is_new=False)
    made = _Assembly(plain, dilation)
    made.prepare()
    for layer in plain.layers:
        if isinstance(layer, L2Norm):
            made.normalize(layer)
        elif not isinstance(layer, Ssd):
            made.copy(layer)
    return made.finished()


def _is_foreign(layer: Layer, dilation: bool) -> bool:
    if isinstance(layer, Convolutional):
        return layer.dilation > 1 and not dilation
    return isinstance(layer, L2Norm | Ssd)


def without_norms(network: Network) -> tuple[Portable, list[Tail]]:
    """The network up to its [l2norm] sections, and what stands behind each; without dilation=.

    Raises CfgError where what stands behind one needs other sections, too.
    """
    plain = network.plain()
    tails = [_behind(plain, layer) for layer in plain.layers if isinstance(layer, L2Norm)]
    if not tails:
        return portable(plain, dilation=False), []
    for tail in tails:
        _check_tail(*tail)  # type: ignore[arg-type]
    gone = {layer.section.index for tail in tails for layer in tail}
    made = _Assembly(plain, dilation=False)
    made.prepare()
    for layer in plain.layers:
        if layer.section.index not in gone and not isinstance(layer, Ssd):
            made.copy(layer)
    return made.finished(), [_tail(plain, *tail) for tail in tails]


def computed(
    first: Portable, tails: Sequence[Tail], x: Floats, compute: Compute, wanted: Sequence[int]
) -> dict[int, Floats]:
    """The outputs of sections of the original, where an engine computes part after part.

    `compute` is given a part, its input and the sections that are asked for, those of other parts
    among them.
    """
    found = compute(first, x, [*wanted, *(tail.source for tail in tails)])
    for tail in tails:
        found |= compute(tail.portable, normalized(found[tail.source], tail.eps), wanted)
    return found


def normalized(x: Floats, eps: float) -> Floats:
    """What enters a Tail, from the output of its source: (N, C, H, W)"""
    return np.asarray(x / np.sqrt(np.square(x).sum(1, keepdims=True) + eps), np.float32)


def _behind(network: Network, norm: L2Norm) -> list[Layer]:
    """An [l2norm] and all that needs its output, heads excepted."""
    found: list[Layer] = [norm]
    members = {norm.section.index}
    for layer in network.layers:
        if isinstance(layer, Ssd) or not members & set(layer.sources):
            continue
        if not members >= set(layer.sources):
            raise layer.section.error(
                f"needs more than the [{norm.section.name}] in line {norm.section.line + 1}: no "
                "engine without such a section can run it"
            )
        found.append(layer)
        members.add(layer.section.index)
    return found


def _check_tail(norm: L2Norm, *others: Layer) -> None:
    if norm.sources[0] == IMAGE:
        raise norm.section.error("sees the image: no engine without such a section can run it")
    for layer in others:
        if isinstance(layer, L2Norm):
            raise layer.section.error("stands behind another one: only Darknet can run it")


def _tail(network: Network, norm: Layer, *others: Layer) -> Tail:
    assert isinstance(norm, L2Norm)
    shape = norm.out_shape
    net = f"[net]\nwidth={shape.width}\nheight={shape.height}\nchannels={shape.channels}\n"
    made = _Assembly(network, False, net)
    made.weigh(norm)
    for layer in others:
        made.copy(layer)
    return Tail(norm.sources[0], norm.eps, made.finished())


class _Assembly:
    """A cfg that is put together from sections of a network and new ones."""

    def __init__(self, network: Network, dilation: bool, net: str | None = None) -> None:
        self.network, self.dilation, self.net = network, dilation, net
        self.places = {IMAGE: IMAGE}
        self.parts: list[str | Layer] = []
        self.state: State = {}

    def prepare(self) -> None:
        """What [net] does to the image, as a section; the padding behind it sees 0 as before."""
        network = self.network
        if network.mean is None:
            return
        mean, channels = torch.tensor(network.mean), network.image.channels
        gain = torch.full((channels,), 255 * network.scale)
        self._depthwise(gain, -mean * network.scale)
        self.places[IMAGE] = len(self.parts) - 1

    def normalize(self, layer: L2Norm) -> None:
        """An [l2norm] for Darknet."""
        self._connect(layer)
        size = 2 * layer.out_shape.channels  # reaches all channels from each
        self.parts.append(NORMALIZATION.format(size=size, eps=layer.eps))
        self.weigh(layer)

    def weigh(self, layer: L2Norm) -> None:
        """The factors of an [l2norm]."""
        factors = layer.factors.detach()
        self._depthwise(factors, torch.zeros_like(factors))
        self.places[layer.section.index] = len(self.parts) - 1

    def copy(self, layer: Layer) -> None:
        """A section with its tensors."""
        self._connect(layer)
        index = layer.section.index
        self.places[index] = len(self.parts)
        holder = layer.owner if layer.owner and not self.dilation else layer
        tensors = {name: tensor.detach() for name, tensor in holder.stored().items()}
        if "weights" in tensors and self._is_widened(layer):
            tensors["weights"] = _widened(tensors["weights"], layer.dilation)
        if tensors:
            self.state[len(self.parts)] = tensors
        self.parts.append(layer)

    def finished(self) -> Portable:
        """Raises CfgError where the sections don't make a network."""
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
        return Portable(Network.with_state(made, self.state), self.places)

    @property
    def _dropped(self) -> tuple[str, ...]:
        """Keys that no section keeps: a widened kernel is a section's own."""
        return () if self.dilation else (SHARING,)

    def _depthwise(self, weights: Tensor, biases: Tensor) -> None:
        """A factor and a shift for every channel of the section before."""
        channels = len(weights)
        tensors = {"biases": biases, "weights": weights.reshape(channels, 1, 1, 1)}
        self.state[len(self.parts)] = tensors
        self.parts.append(depthwise(channels))

    def _connect(self, layer: Layer) -> None:
        """See that what fed the section stands before it."""
        before = self.places[layer.section.index - 1] if layer.follows else len(self.parts) - 1
        if before != len(self.parts) - 1:
            self.parts.append(route(before))

    def _edits(self, layer: Layer) -> dict[str, object]:
        found = renumbered(layer, self.places)
        if self._is_widened(layer):
            reach, padding = layer.dilation * (layer.size - 1) + 1, layer.padding * layer.dilation
            found |= {"size": reach, "pad": 0, "padding": padding, "dilation": 1}
        return found

    def _is_widened(self, layer: Layer) -> TypeGuard[Convolutional]:
        return _is_foreign(layer, self.dilation) and isinstance(layer, Convolutional)


def _widened(weights: Tensor, dilation: int) -> Tensor:
    """(n, c, k, k) → with zeros between them, as far as they reach apart"""
    reach = dilation * (weights.shape[-1] - 1) + 1
    wide = weights.new_zeros(*weights.shape[:2], reach, reach)
    wide[:, :, ::dilation, ::dilation] = weights
    return wide
