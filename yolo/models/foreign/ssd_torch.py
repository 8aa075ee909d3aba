"""SSD300 on VGG-16, and VGG-16 alone, with the tensor names of amdegroot/ssd.pytorch.

`vgg` and `extras` are the convolutions in the order of the data, `L2Norm` scales the output of
conv4_3, `loc` and `conf` follow the maps. The order of their channels (box after box, background
first) and of a cell's prior boxes is that of [ssd]: nothing is rearranged. Models that the project
trained itself have prior boxes that are clipped in its own way: clip=2.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from torch import Tensor

from yolo.cfg import Cfg
from yolo.errors import WeightsError
from yolo.heads.ssd import CLIP_NUMBERS, only_ssd
from yolo.layers import IMAGE, Layer
from yolo.models.classes import with_classes
from yolo.models.foreign.state_dict import StateDict
from yolo.network import Network, State

TRUNK, NORM, LOC, CONF = ("vgg", "extras"), "L2Norm", "loc", "conf"
FACTORS = "factors"
PARTS = {"weights": "weight", "biases": "bias", FACTORS: "weight"}  # our names: PyTorch's


@dataclass(frozen=True)
class Converted:
    """A converted model: `cfg` of the full network for the file's classes, and `network`.

    `network` has the sections that the file has tensors for: all, or the first for a backbone.
    """

    cfg: Cfg
    network: Network

    @property
    def is_backbone(self) -> bool:
        return len(self.network.layers) < len(self.cfg.layers)


def read_ssd(path: str | os.PathLike[str], cfg: Cfg, bgr: bool = False) -> Converted:
    """The tensors of a state dict for the sections of a cfg, matched by their order.

    `bgr`: the file's first convolution expects BGR. Ours expects RGB, as do the project's own
    models (data/voc0712.py) and torchvision's vgg16_reducedfc.pth. Models converted from Caffe
    expect BGR: ssd_300_VOC0712.pth has an mAP of 0.772 with it, 0.725 with RGB (issue 31 there).
    Raises DarknetError for missing tensors, left over ones and wrong shapes.
    """
    tensors = StateDict(path)
    if all(group.isdigit() for group in tensors.groups):
        tensors.put_into(TRUNK[0])
    classes = _classes(cfg, tensors)
    if classes is not None:
        cfg = with_classes(cfg, classes)
    if LOC in tensors.groups and not bgr:
        cfg = cfg.edited({only_ssd(Network(cfg).layers).section.index: {"clip": CLIP_NUMBERS}})
    network = Network(cfg).plain()
    modules = _modules(network, tensors)
    state = {i: _take(tensors, network.layers[i], module) for i, module in modules.items()}
    tensors.finish(cfg.path)
    if bgr:
        _swap_colours(network, state)
    return Converted(cfg, Network.with_state(_leading(network, state), state))


def _classes(cfg: Cfg, tensors: StateDict) -> int | None:
    """The file's number of classes without the background; None where the cfg has the same."""
    head, name = only_ssd(Network(cfg).layers), f"{CONF}.0.weight"
    if name not in tensors.tensors:
        return None
    shape = tensors.tensors[name].shape
    filters, boxes = shape[0] if shape else 0, len(head.prior_options[0].shapes)
    if filters % boxes or filters < 2 * boxes:
        wrong = f"{boxes} prior boxes need a filter for the background and for every class"
        raise WeightsError(f"{tensors.path}: {name} has {filters} filters, but {wrong}")
    classes = filters // boxes - 1
    return None if classes == head.classes else classes


def _modules(network: Network, tensors: StateDict) -> dict[int, str]:
    """The file's module for every section that stores tensors.

    For a trunk alone, only the sections up to its last convolution.
    """
    stored, beside = list(network.state()), _beside_trunk(network)
    body = [i for i in stored if i not in beside]
    trunk = [module for group in TRUNK for module in tensors.modules(group)]
    is_backbone = not tensors.groups & {NORM, LOC, CONF}
    if not trunk or len(trunk) > len(body) or (len(trunk) < len(body) and not is_backbone):
        counted = f"{len(trunk)} convolutions in {' and '.join(TRUNK)}"
        raise WeightsError(f"{tensors.path}: {counted}, but {len(body)} in {network.cfg.path}")
    modules = beside | dict(zip(body, trunk, strict=False))
    return {i: modules[i] for i in stored if not is_backbone or i <= body[len(trunk) - 1]}


def _beside_trunk(network: Network) -> dict[int, str]:
    """The modules of the norm and of the sections before the head."""
    sources = only_ssd(network.layers).sources
    half = len(sources) // 2
    modules = {i: NORM for i, tensors in network.state().items() if FACTORS in tensors}
    for group, layers in ((LOC, sources[:half]), (CONF, sources[half:])):
        modules |= {i: f"{group}.{number}" for number, i in enumerate(layers)}
    return modules


def _take(tensors: StateDict, layer: Layer, module: str) -> dict[str, Tensor]:
    """The tensors of a section, taken from the file."""
    taken = {}
    for part, tensor in layer.stored().items():
        if part not in PARTS:
            needs = layer.section.error(f"needs {part}")
            raise WeightsError(f"{tensors.path}: {module} has no {part}: {needs}")
        taken[part] = tensors.take(f"{module}.{PARTS[part]}", tensor.shape, layer.section)
    return taken


def _swap_colours(network: Network, state: State) -> None:
    for index, tensors in state.items():
        if IMAGE in network.layers[index].sources:
            tensors["weights"] = tensors["weights"].flip(1)


def _leading(network: Network, state: State) -> Cfg:
    """The cfg up to the last section that the state has tensors for; all of it where it has all."""
    cfg = network.cfg
    if state.keys() == network.state().keys():
        return cfg
    lines = cfg.to_bytes().split(b"\n")
    return Cfg(b"\n".join(lines[: cfg.layers[max(state) + 1].line]), cfg.path)
