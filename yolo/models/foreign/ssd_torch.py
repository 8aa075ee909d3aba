"""SSD300 on VGG-16, and VGG-16 alone, as amdegroot/ssd.pytorch names their tensors.

`vgg` and `extras` are the convolutions in the order of the data, `L2Norm` scales what conv4_3
gives, `loc` and `conf` stand behind the maps. Their channels mean what those before [ssd] mean (box
after box, background first), and a place's prior boxes have the same order: nothing is rearranged.
What that project trains itself has prior boxes that are clipped in its own way: clip=2.
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
    """`cfg` is the whole network for the file's classes, `network` what the file has tensors for.

    That is all of it, or its first sections where the file holds a backbone.
    """

    cfg: Cfg
    network: Network

    @property
    def is_backbone(self) -> bool:
        return len(self.network.layers) < len(self.cfg.layers)


def read_ssd(path: str | os.PathLike[str], cfg: Cfg, bgr: bool = False) -> Converted:
    """The tensors of a state dict for the sections of a cfg, matched by their order.

    `bgr` says that the file's first convolution sees BGR; ours sees RGB, and so does what that
    project trains (data/voc0712.py); torchvision gives RGB to its vgg16_reducedfc.pth, too. Models
    converted from Caffe see BGR: ssd_300_VOC0712.pth has an mAP of 0.772 so, of 0.725 with RGB
    (issue 31 there). Raises DarknetError for tensors missing, left over or of other shapes.
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
    """How many classes the file knows, background aside, where the cfg has another number."""
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
    """For every section that stores tensors the module that has them.

    Where there is nothing but a trunk, only for the sections up to its last convolution.
    """
    stored, beside = list(network.state()), _beside_trunk(network)
    body = [i for i in stored if i not in beside]
    trunk = [module for group in TRUNK for module in tensors.modules(group)]
    is_backbone = not tensors.groups & {NORM, LOC, CONF}
    if not trunk or len(trunk) > len(body) or (len(trunk) < len(body) and not is_backbone):
        found = f"{len(trunk)} convolutions in {' and '.join(TRUNK)}"
        raise WeightsError(f"{tensors.path}: {found}, but {len(body)} in {network.cfg.path}")
    modules = beside | dict(zip(body, trunk, strict=False))
    return {i: modules[i] for i in stored if not is_backbone or i <= body[len(trunk) - 1]}


def _beside_trunk(network: Network) -> dict[int, str]:
    """The modules of the norm and of what enters the head."""
    sources = only_ssd(network.layers).sources
    half = len(sources) // 2
    found = {i: NORM for i, tensors in network.state().items() if FACTORS in tensors}
    for group, layers in ((LOC, sources[:half]), (CONF, sources[half:])):
        found |= {i: f"{group}.{number}" for number, i in enumerate(layers)}
    return found


def _take(tensors: StateDict, layer: Layer, module: str) -> dict[str, Tensor]:
    """What a section stores."""
    found = {}
    for part, tensor in layer.stored().items():
        if part not in PARTS:
            needs = layer.section.error(f"needs {part}")
            raise WeightsError(f"{tensors.path}: {module} has no {part}: {needs}")
        found[part] = tensors.take(f"{module}.{PARTS[part]}", tensor.shape, layer.section)
    return found


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
