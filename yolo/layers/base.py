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
    Subclasses set `out_shape`; a head is a section whose output nothing in the network may change.
    """

    is_head = False
    gives_boxes = False  # what it gives can be decoded to boxes
    sees_patches = False  # trained on patches of images in place of jitter= and resize=
    computes = True  # its output isn't just its input
    groups = 1  # parts of its input's channels that don't see each other
    is_left_out = False  # no engine has it: what feeds it is the result
    in_darknet = True  # Darknet has it; else it is left out, or has substitutes
    feeds = True  # others may use its output
    follows = True  # the section before it feeds it
    refers: tuple[str, ...] = ()  # keys with the indices of others that do
    plain_type: str | None = None  # of a Bayesian section: the section that its means make
    plain_lacks: tuple[str, ...] = ()  # keys that the plain section doesn't have
    owner: Layer | None = None  # the section whose tensors it uses in place of own ones
    activation: Activation | None  # applied to its outputs
    out_shape: Shape

    def __init__(self, section: Section, earlier: Sequence[Layer], image: Shape) -> None:
        super().__init__()
        for key in ("dontload", "dontloadscales"):
            if section.flag(key):
                raise section.error(f"{key}=1: its tensors would not be in the file", key)
        self.section = section
        self.activation = None
        self.sources = self.find_sources(section)
        self.inputs = tuple(image if i == IMAGE else earlier[i].out_shape for i in self.sources)

    @classmethod
    def find_sources(cls, section: Section) -> tuple[int, ...]:
        """The sections that feed this one, as `follows` and `refers` say."""
        before = (section.index - 1,) if cls.follows else ()
        named = ((key, index) for key in cls.refers for index in section.integers(key))
        return (*before, *(resolve(section, key, index) for key, index in named))

    @classmethod
    def classes_in(cls, section: Section) -> int | None:
        """The number of classes of a section of this kind that gives boxes; None for others."""
        return None

    @property
    def mixes(self) -> bool:
        """True where each output has weights for several input channels: all of its group."""
        return False

    def slots(self) -> dict[str, tuple[nn.Module, str]]:
        """The place of each stored tensor, in the order of the .weights file."""
        return {}

    def stored(self) -> dict[str, Tensor]:
        """The section's tensors in the order of the .weights file."""
        return {name: getattr(module, attr) for name, (module, attr) in self.slots().items()}

    def store(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over tensors without copying them; they must have the shapes of the stored ones."""
        for name, (module, attr) in self.slots().items():
            if tensors[name].shape != getattr(module, attr).shape:
                shapes = tuple(tensors[name].shape), tuple(getattr(module, attr).shape)
                raise self.section.error(f"its {name} have the shape {shapes[0]}, not {shapes[1]}")
            if attr in module._parameters:
                module._parameters[attr] = nn.Parameter(tensors[name])
            else:
                module._buffers[attr] = tensors[name]

    def means(self) -> dict[str, Tensor]:
        """The tensors that a plain section computes its mean output with."""
        return {name: tensor.detach() for name, tensor in self.stored().items()}

    def first(self, name: str) -> Tensor | None:
        """The value that a tensor is centred on at first; None leaves that to its name."""
        return None

    def fresh(self, name: str, like: Tensor, random: torch.Generator) -> Tensor:
        """A tensor of the shape of `like` that training starts with.

        Weights are He-normal over the fan-in (He et al., Delving Deep into Rectifiers, ICCV 2015),
        scales and variances 1, the rest 0, unless `first` says otherwise.
        """
        centre = self.first(name)
        if centre is not None:
            spread = POSTERIOR_SPREAD if self.plain_type else 0.0
            return centre + spread * torch.randn(like.shape, generator=random)
        if name == "weights":
            return self.fresh_weights(like, random)
        return torch.ones(like.shape) if name in ONES else torch.zeros(like.shape)

    def fresh_weights(self, like: Tensor, random: torch.Generator) -> Tensor:
        """See `fresh`."""
        return he_normal(like, like.shape[1:].numel(), random)

    def start_source(self, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fresh tensors of a section that feeds it → those that training is to start with."""
        return fresh

    def widths(self, classes: int) -> dict[int, int]:
        """Channels that sections need for another number of classes, if it is the last section."""
        return {self.section.index: classes}

    def keys_for(self, classes: int) -> dict[str, object]:
        """Its own keys for another number of classes."""
        return {}

    def substitutes(self) -> tuple[Written, ...] | None:
        """Sections of Darknet that compute what it does; None where it is one itself."""
        return None

    def outside(self) -> Outside | None:
        """The part of it that must be computed outside where an engine has no substitutes."""
        return None

    def described(self, place: Callable[[int], object]) -> dict[str, object]:
        """For JSON: how its output comes of what feeds it, where it `is_left_out`.

        `place` says where the output of a section is.
        """
        raise NotImplementedError

    def tie(self) -> None:
        """Take over the tensors of the section that this one shares them with, if it does."""

    def count_parameters(self) -> int:
        """Learnable numbers of its own."""
        return sum(t.numel() for t in self.stored().values() if isinstance(t, nn.Parameter))

    def macs(self) -> int:
        """Multiplications with weights for one image."""
        return 0

    def working_elements(self) -> int:
        """Numbers that its forward holds for one image beside its inputs and its output."""
        return 0

    def bounded(self, shape: Shape) -> Shape:
        """The shape, if it is one; raises CfgError for an empty or an absurd one."""
        if min(shape.channels, shape.height, shape.width) < 1:
            given = " + ".join(str(s) for s in self.inputs) or "nothing"
            raise self.section.error(f"makes an output of {shape} from {given}")
        if shape.elements > MOST_ELEMENTS:
            raise self.section.error(f"makes an output of {shape}: more than Darknet can hold")
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
    """The class for a section; raises CfgError for what isn't supported."""
    if section.type in RECURRENT:
        raise section.error("is recurrent: only feed-forward networks can be read")
    if section.type not in _kinds:
        raise section.error("is not a section that is known here")
    return _kinds[section.type]


def registered() -> dict[str, Kind]:
    """Every known section type and its class."""
    return dict(_kinds)


def resolve(section: Section, key: str, index: int) -> int:
    """Darknet's count for a layer index that may be relative; raises CfgError out of range."""
    target = section.index + index if index < 0 else index
    if target < 0:
        raise section.error(f"{key}={index} points before the first layer", key)
    if target >= section.index:
        raise section.error(f"{key}={index} points to a layer that comes later", key)
    return target


def he_normal(like: Tensor, fan_in: int, random: torch.Generator) -> Tensor:
    """Weights of the shape of `like` whose outputs vary as their rectified inputs do."""
    return torch.randn(like.shape, generator=random) * math.sqrt(2 / fan_in)


def empty(*shape: int) -> Tensor:
    """An uninitialised tensor on the device of the context (meta while a network is built)."""
    return torch.empty(*shape)
