"""The base class of all sections, and the registry from section name to class."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yolo.cfg import Section
from yolo.layers.activations import Activation
from yolo.layers.written import Outside, Written

# Darknet counts bytes and elements in C ints.
MOST_ELEMENTS = 2**31 - 1
IMAGE = -1  # the source index of the network's input

ONES = ("scales", "variance")  # tensors that start with 1
POSTERIOR_SPREAD = 0.01  # of a Bayesian section's scales and log-variances, at first

RECURRENT = ("rnn", "gru", "lstm", "crnn", "conv_lstm", "history")


@dataclass(frozen=True)
class Shape:
    """The output of a section for one image."""

    channels: int
    height: int
    width: int

    @property
    def elements(self) -> int:
        return self.channels * self.height * self.width

    @property
    def area(self) -> int:
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


class Layer(nn.Module):
    """One section: its shape rule, its forward, and its tensors in the order of the .weights file.

    `sources` are the sections that feed it (IMAGE for the network's input), `inputs` their shapes.
    Subclasses set `out_shape`; a head is a section whose output a cut must not change.
    """

    is_head = False
    gives_boxes = False  # its output can be decoded to boxes
    sees_patches = False  # trained on patches of images instead of jitter= and resize=
    computes = True  # its output isn't just its input
    groups = 1  # groups of input channels that are processed separately
    is_left_out = False  # no engine has it: exports end with its inputs
    in_darknet = True  # Darknet has it; else it is left out, or has substitutes
    feeds = True  # other sections may use its output
    follows = True  # the section before it feeds it
    refers: tuple[str, ...] = ()  # keys with the indices of other sections that feed it
    plain_type: str | None = None  # of a Bayesian section: the type with the posterior means
    plain_lacks: tuple[str, ...] = ()  # keys that the plain section doesn't have
    owner: Layer | None = None  # the section whose tensors it shares
    activation: Activation | None  # applied to its outputs
    out_shape: Shape

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__()
        for key in ("dontload", "dontloadscales"):
            if section.flag(key):
                raise section.error(f"{key}=1 is not supported: the file would lack tensors", key)
        self.section = section
        self.activation = None
        self.sources = self.find_sources(section)
        self.inputs = tuple(image if i == IMAGE else earlier[i].out_shape for i in self.sources)

    @classmethod
    def find_sources(cls, section: Section) -> tuple[int, ...]:
        """The sections that feed this one, from `follows` and `refers`."""
        before = (section.index - 1,) if cls.follows else ()
        named = ((key, index) for key in cls.refers for index in section.integers(key))
        return (*before, *(resolve(section, key, index) for key, index in named))

    @classmethod
    def classes_in(cls, section: Section) -> int | None:
        """The number of classes of a section that gives boxes; None for other kinds."""
        return None

    @property
    def mixes(self) -> bool:
        """True where each output has weights for all input channels of its group, and not one."""
        return False

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        """Module and attribute of each stored tensor, in the order of the .weights file."""
        return {}

    def stored(self) -> dict[str, Tensor]:
        """The section's tensors in the order of the .weights file."""
        return {name: getattr(module, attr) for name, (module, attr) in self.slots().items()}

    def store(self, tensors: Mapping[str, Tensor]) -> None:
        """Use tensors without copying them; raises CfgError unless they have the stored shapes."""
        for name, (module, attr) in self.slots().items():
            if tensors[name].shape != getattr(module, attr).shape:
                shapes = tuple(tensors[name].shape), tuple(getattr(module, attr).shape)
                raise self.section.error(f"its {name} have the shape {shapes[0]}, not {shapes[1]}")
            if attr in module._parameters:
                module._parameters[attr] = nn.Parameter(tensors[name])
            else:
                module._buffers[attr] = tensors[name]

    def means(self) -> dict[str, Tensor]:
        """The tensors with which a plain section computes the mean output."""
        return {name: tensor.detach() for name, tensor in self.stored().items()}

    def first(self, name: str) -> Tensor | None:
        """The value around which a tensor is initialised; None for the default of its name."""
        return None

    def fresh(self, name: str, like: Tensor, random: torch.Generator) -> Tensor:
        """An initial tensor for training, of the shape of `like`.

        Weights are He-normal over the fan-in (He et al., Delving Deep into Rectifiers, ICCV 2015),
        scales and variances 1, the rest 0, unless `first` gives a value.
        """
        centre = self.first(name)
        if centre is not None:
            spread = POSTERIOR_SPREAD if self.plain_type else 0.0
            return centre + spread * torch.randn(like.shape, generator=random)
        if name == "weights":
            return self.fresh_weights(like, random)
        return torch.ones(like.shape) if name in ONES else torch.zeros(like.shape)

    def fresh_weights(self, like: Tensor, random: torch.Generator) -> Tensor:
        """Initial weights, see `fresh`."""
        return he_normal(like, like.shape[1:].numel(), random)

    def start_source(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """Initial tensors of a section that feeds it, adapted to what it needs."""
        return fresh

    def widths(self, classes: int) -> dict[int, int]:
        """Channels that sections need for another number of classes, if it is the last section."""
        return {self.section.index: classes}

    def keys_for(self, classes: int) -> dict[str, object]:
        """Its own keys for another number of classes."""
        return {}

    def substitutes(self) -> tuple[Written, ...] | None:
        """Sections of Darknet that compute the same; None where it is one of Darknet's."""
        return None

    def outside(self) -> Outside | None:
        """The part that must be computed outside an engine without its substitutes; None mostly."""
        return None

    def described(self, locate: Callable[[int], object]) -> dict[str, object]:
        """Description for JSON of the computation that an export leaves out (`is_left_out`).

        `locate` returns the file and section of an output.
        """
        raise NotImplementedError

    def tie(self) -> None:
        """Use the tensors of `owner`, where there is one."""

    def count_parameters(self) -> int:
        """Number of learnable values of its own."""
        return sum(t.numel() for t in self.stored().values() if isinstance(t, nn.Parameter))

    def macs(self) -> int:
        """Multiplications with weights for one image."""
        return 0

    def working_elements(self) -> int:
        """Number of values that forward holds for one image beside inputs and output."""
        return 0

    def bounded(self, shape: Shape) -> Shape:
        """The shape itself; raises CfgError for one that is empty or too large."""
        if min(shape.channels, shape.height, shape.width) < 1:
            inputs = " + ".join(str(s) for s in self.inputs) or "nothing"
            raise self.section.error(f"makes an output of {shape} from {inputs}")
        if shape.elements > MOST_ELEMENTS:
            raise self.section.error(f"makes an output of {shape}: too large for Darknet")
        return shape


Kind = type[Layer]
_kinds: dict[str, Kind] = {}


def register(*types: str) -> Callable[[Kind], Kind]:
    """Class decorator: the class builds sections of these types."""

    def add(kind: Kind) -> Kind:
        _kinds.update(dict.fromkeys(types, kind))
        return kind

    return add


def kind_of(section: Section) -> Kind:
    """The class for a section; raises CfgError for a type that isn't supported."""
    if section.type in RECURRENT:
        raise section.error("is recurrent: only feed-forward networks can be read")
    if section.type not in _kinds:
        raise section.error("is not a known section type")
    return _kinds[section.type]


def registered() -> dict[str, Kind]:
    """Every known section type and its class."""
    return dict(_kinds)


def resolve(section: Section, key: str, index: int) -> int:
    """The absolute index of a layer from one that may be relative; raises CfgError out of range."""
    target = section.index + index if index < 0 else index
    if target < 0:
        raise section.error(f"{key}={index} points before the first layer", key)
    if target >= section.index:
        raise section.error(f"{key}={index} points to a layer that comes later", key)
    return target


def he_normal(like: Tensor, fan_in: int, random: torch.Generator) -> Tensor:
    """Weights of the shape of `like` that keep the variance of rectified inputs."""
    return torch.randn(like.shape, generator=random) * math.sqrt(2 / fan_in)


def empty(*shape: int) -> Tensor:
    """An uninitialised tensor on the device of the context (meta while a network is built)."""
    return torch.empty(*shape)
