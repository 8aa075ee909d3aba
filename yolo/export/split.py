"""A network in parts, for engines that can't compute some of its sections.

Those are computed between two parts, outside the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yolo.export.assembly import Assembly, Portable
from yolo.export.portable import portable
from yolo.layers import IMAGE, Layer
from yolo.layers.written import Floats, Outside
from yolo.network import Network

Compute = Callable[[Portable, Floats, Sequence[int]], dict[int, Floats]]


@dataclass(frozen=True)
class Tail:
    """The sections after a computation outside the engine.

    The input of `portable` is what `outside` computes from the output of section `source`.
    """

    source: int
    outside: Outside
    portable: Portable


def split(network: Network) -> tuple[Portable, list[Tail]]:
    """The network up to the sections that are computed outside, and the tail after each.

    Dilation is removed. Raises CfgError where a tail needs the output of other sections, too.
    """
    plain = network.plain()
    cuts = [(layer, outside) for layer in plain.layers if (outside := layer.outside())]
    if not cuts:
        return portable(plain, dilation=False), []
    after = [_after(plain, layer) for layer, _ in cuts]
    for (layer, _), others in zip(cuts, after, strict=True):
        _check_tail(layer, others)
    gone = {layer.section.index for layer, _ in cuts}
    gone |= {layer.section.index for others in after for layer in others}
    made = Assembly(plain, dilation=False)
    made.prepare()
    for layer in plain.layers:
        if layer.section.index not in gone:
            made.add(layer)
    tails = [_tail(plain, *cut, others) for cut, others in zip(cuts, after, strict=True)]
    return made.finished(), tails


def computed(
    first: Portable, tails: Sequence[Tail], x: Floats, compute: Compute, wanted: Sequence[int]
) -> dict[int, Floats]:
    """The outputs of the `wanted` sections of the original, computed part after part.

    `compute` gets a part, its input and the wanted sections, which may also be in other parts.
    """
    outputs = compute(first, x, [*wanted, *(tail.source for tail in tails)])
    for tail in tails:
        outputs |= compute(tail.portable, tail.outside.compute(outputs[tail.source]), wanted)
    return outputs


def _after(network: Network, start: Layer) -> list[Layer]:
    """All sections that depend on one, without heads that are left out."""
    tail: list[Layer] = []
    members = {start.section.index}
    for layer in network.layers:
        if layer.is_left_out or not members & set(layer.sources):
            continue
        if not members >= set(layer.sources):
            raise layer.section.error(
                f"needs more than the [{start.section.name}] in line {start.section.line + 1}: "
                "only an engine that knows such a section can run it"
            )
        tail.append(layer)
        members.add(layer.section.index)
    return tail


def _check_tail(start: Layer, others: Sequence[Layer]) -> None:
    if start.sources[0] == IMAGE:
        raise start.section.error("takes the image: only an engine that knows it can run it")
    for layer in others:
        if layer.outside():
            raise layer.section.error("comes after another such section: only Darknet can run it")


def _tail(network: Network, start: Layer, outside: Outside, others: Sequence[Layer]) -> Tail:
    shape = start.out_shape
    net = f"[net]\nwidth={shape.width}\nheight={shape.height}\nchannels={shape.channels}\n"
    made = Assembly(network, False, net)
    made.write(start, outside.sections)
    for layer in others:
        made.add(layer)
    return Tail(start.sources[0], outside, made.finished())
