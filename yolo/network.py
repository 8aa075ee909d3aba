"""A cfg document made runnable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

import yolo.heads  # noqa: F401  registers the heads
from yolo.cfg import Cfg
from yolo.layers import IMAGE, Layer, Shape, kind_of

Visit = Callable[[Layer, list[Tensor]], Tensor | None]
T = TypeVar("T")
State = dict[int, dict[str, Tensor]]  # section index → its tensors in file order
PREPARATION = ("image_mean", "image_scale")  # keys of [net]; Darknet has a scale= of its own
MOST_CHANNELS = 2**20  # of all sections together; the largest networks have a tenth of it


class Held(Generic[T]):
    """Outputs by section; at first only the network's input.

    `consumers` are the sections that use each output, once for every use.
    """

    def __init__(self, consumers: Mapping[int, Sequence[int]], image: T) -> None:
        self._uses = {i: len(users) for i, users in consumers.items()}
        self._outputs = {IMAGE: image}

    def inputs(self, layer: Layer) -> list[T]:
        """The outputs that feed a section."""
        return [self._outputs[source] for source in layer.sources]

    def get(self, index: int) -> T | None:
        """The output of a section; None where no other one needs it."""
        return self._outputs.get(index)

    def values(self) -> Iterable[T]:
        """All outputs that are held."""
        return self._outputs.values()

    def keep(self, layer: Layer, output: T | None) -> None:
        """Hold the output of a section if others need it, and free the inputs that it used last.

        `output` is None for a section that is left out.
        """
        index = layer.section.index
        if output is not None and self._uses[index]:
            self._outputs[index] = output
        for source in layer.sources:
            self._uses[source] -= 1
            if not self._uses[source]:
                del self._outputs[source]


class Network(nn.Module):
    """All sections of a cfg as modules; their tensors stay on the meta device until a state is set.

    Raises CfgError where the sections don't make a network.
    """

    def __init__(self, cfg: Cfg) -> None:
        super().__init__()
        self.cfg = cfg
        self.image = image_shape(cfg)
        self.mean, self.scale = _preparation(cfg, self.image)
        if not cfg.layers:
            raise cfg.net.error("no layers after it")
        layers: list[Layer] = []
        with torch.device("meta"):
            for section in cfg.layers:
                layers.append(kind_of(section)(section, layers, self.image))
                _check_sources(layers)
        self.layers = tuple(layers)
        self._check_channels()
        self.sections = nn.ModuleList(layers)
        self.consumers = self._consumers()
        self.eval()

    @classmethod
    def with_state(cls, cfg: Cfg, state: Mapping[int, Mapping[str, Tensor]]) -> Network:
        """A network that takes over the tensors of a state, without a copy."""
        network = cls(cfg)
        network.store(state)
        return network

    def state(self) -> State:
        """The stored tensors of every section that has some."""
        stored = ((i, layer.stored()) for i, layer in enumerate(self.layers))
        return {i: {n: t.detach() for n, t in tensors.items()} for i, tensors in stored if tensors}

    def store(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Take over the tensors of a state without copying them."""
        for index, tensors in state.items():
            self.layers[index].store(tensors)
        for layer in self.layers:
            layer.tie()

    def resized(self, width: int, height: int) -> Network:
        """The same tensors for images of another size; raises CfgError where that can't be."""
        cfg = self.cfg.edited({-1: {"width": width, "height": height}})
        return Network.with_state(cfg, self.state())

    @torch.no_grad()
    def copy_(self, state: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Copy the values of a state into the network's own tensors."""
        for index, tensors in self.state().items():
            for name, tensor in tensors.items():
                tensor.copy_(state[index][name])

    @property
    def heads(self) -> list[int]:
        """The output sections; the last section that computes something where there are none."""
        heads = [i for i, layer in enumerate(self.layers) if layer.is_head]
        return heads or [self._last()]

    @property
    def head_inputs(self) -> list[int]:
        """The sections whose outputs enter the heads: those that a cut must not change."""
        indices: list[int] = []
        for i in self.heads:
            layer = self.layers[i]
            indices += layer.sources if layer.is_head else (i,)
        return [i for i in dict.fromkeys(indices) if i != IMAGE]

    def forward(self, x: Tensor, collect: Iterable[int] | None = None) -> dict[int, Tensor]:
        """(N, C, H, W) in [0, 1] → the outputs of the sections in `collect`, by default the heads'.

        The sections see (255·x − image_mean)·image_scale where [net] has these keys. Other
        outputs are freed as soon as nothing needs them.
        """
        wanted = set(self.heads if collect is None else collect)
        outputs: dict[int, Tensor] = {}
        for i, output in self.walk(x, lambda layer, inputs: layer(*inputs)):
            if i in wanted:
                outputs[i] = output
                if len(outputs) == len(wanted):
                    break
        return outputs

    def walk(self, x: Tensor, visit: Visit) -> Iterator[tuple[int, Tensor]]:
        """Index and output of every section in order, for x (N, C, H, W) in [0, 1].

        `visit` computes a section's output from its inputs; it may return None for a section that
        feeds no other. An output is freed as soon as no later section needs it.
        """
        held = Held(self.consumers, self.prepared(x))
        for i, layer in enumerate(self.layers):
            output = visit(layer, held.inputs(layer))
            held.keep(layer, output)
            if output is not None:
                yield i, output

    def prepared(self, x: Tensor) -> Tensor:
        """An image in [0, 1] as the first section sees it."""
        if self.mean is None:
            return x
        mean = x.new_tensor(self.mean)[:, None, None]
        return (255 * x - mean) * self.scale

    def count_parameters(self) -> int:
        """Learnable numbers: biases, scales and weights."""
        return sum(layer.count_parameters() for layer in self.layers)

    def count_floats(self) -> int:
        """Numbers in the .weights file."""
        return sum(t.numel() for layer in self.layers for t in layer.stored().values())

    def macs(self) -> int:
        """Multiplications with weights for one image."""
        return sum(layer.macs() for layer in self.layers)

    def plain(self) -> Network:
        """The network of the posterior means: itself where no section is Bayesian.

        It shares the tensors that are the same.
        """
        types = {i: layer.plain_type for i, layer in enumerate(self.layers) if layer.plain_type}
        if not types:
            return self
        lacks = {key for layer in self.layers for key in layer.plain_lacks}
        return Network.with_state(self.cfg.retyped(types, lacks), self.means())

    def means(self) -> State:
        """The tensors of the plain network."""
        means = ((i, layer.means()) for i, layer in enumerate(self.layers))
        return {i: tensors for i, tensors in means if tensors}

    def fused(self) -> Network:
        """A copy for inference: plain, with each BatchNorm folded into the weights before it.

        Its memory format is channels_last, which is usually faster.
        """
        plain = self.plain()
        copy = Network(plain.cfg)
        copy.store({i: dict(tensors) for i, tensors in plain.state().items()})
        for layer in copy.layers:
            _fuse(layer)
        return copy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _check_channels(self) -> None:
        widest = max(self.layers, key=lambda layer: layer.out_shape.channels)
        total = sum(layer.out_shape.channels for layer in self.layers) + self.image.channels
        if total > MOST_CHANNELS:
            raise widest.section.error(
                f"makes an output of {widest.out_shape}: all sections together have {total} "
                f"channels, at most {MOST_CHANNELS} are supported"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Network:
        """Move or cast (.to, .double), then share tensors again: torch copies each module's own."""
        super()._apply(fn, recurse)
        for layer in self.layers:
            layer.tie()
        return self

    def _consumers(self) -> dict[int, list[int]]:
        consumers: dict[int, list[int]] = {i: [] for i in range(IMAGE, len(self.layers))}
        for i, layer in enumerate(self.layers):
            for source in layer.sources:
                consumers[source].append(i)
        return consumers

    def _last(self) -> int:
        return max((i for i, layer in enumerate(self.layers) if layer.computes), default=0)


def _check_sources(layers: Sequence[Layer]) -> None:
    """Raises CfgError where the last section uses the output of one that may feed no other."""
    for source in layers[-1].sources:
        if source != IMAGE and not layers[source].feeds:
            name = layers[source].section.name
            raise layers[-1].section.error(
                f"takes its input from an [{name}], whose output is a list of boxes"
            )


def image_shape(cfg: Cfg) -> Shape:
    """The input that [net] asks for; raises CfgError where it is missing."""
    net = cfg.net
    sizes = ("channels", "height", "width")
    if net.has("inputs") and not any(net.has(key) for key in sizes):
        return Shape(net.integer("inputs", None, 1, 2**24), 1, 1)
    shape = Shape(*(net.integer(key, None, 1, 2**15) for key in sizes))
    if shape.elements > 2**28:
        raise net.error(f"asks for an input of {shape}: too large")
    return shape


def _preparation(cfg: Cfg, image: Shape) -> tuple[tuple[float, ...] | None, float]:
    """Mean and scale of 8-bit colours from [net]; the mean is None where it gives neither."""
    net = cfg.net
    if not any(net.has(key) for key in PREPARATION):
        return None, 1.0
    mean, scale = net.numbers("image_mean", (0.0,)), net.number("image_scale", 1.0)
    if len(mean) == 1:
        mean *= image.channels
    if len(mean) != image.channels:
        values = f"{len(mean)} values for {image.channels} channels"
        raise net.error(f"image_mean has {values}", "image_mean")
    if scale <= 0:
        raise net.error(f"image_scale={scale:g}: expected more than 0", "image_scale")
    return mean, scale


@torch.no_grad()
def _fuse(layer: Layer) -> None:
    bn = getattr(layer, "bn", None)
    linear = getattr(layer, "conv", None) or getattr(layer, "linear", None)
    if bn is None or linear is None:
        return
    gain = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    shape = (-1, *[1] * (linear.weight.dim() - 1))
    linear.weight = nn.Parameter(linear.weight * gain.reshape(shape))
    linear.bias = nn.Parameter(bn.bias - bn.running_mean * gain)
    layer.bn = None  # type: ignore[assignment]
