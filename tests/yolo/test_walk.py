"""The one loop over sections: its outputs are those of the sections, held as long as needed."""

import weakref

import torch
from cfgs import NET, plain, route
from hypothesis import given
from networks import build, random_input
from random_cfg import Sample, samples

from yolo.layers import IMAGE, Layer
from yolo.network import Held, Network


def one_by_one(network: Network, x: torch.Tensor) -> dict[int, torch.Tensor]:
    """All outputs, kept to the end."""
    outputs = {IMAGE: network.prepared(x)}
    for i, layer in enumerate(network.layers):
        outputs[i] = layer(*(outputs[source].clone() for source in layer.sources))
    return outputs


def call(layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
    return layer(*inputs)


@given(samples())
def test_walk_and_forward_give_what_the_sections_give(sample: Sample) -> None:
    network, x = sample.network.double(), sample.x.double()
    network.store(sample.state)
    with torch.no_grad():
        expected = one_by_one(network, x)
        walked = {i: y.clone() for i, y in network.walk(x, call)}
        heads = network(x)
        everything = network(x, collect=range(len(network.layers)))
    assert list(walked) == list(everything) == list(range(len(network.layers)))
    assert list(heads) == network.heads
    # not bit for bit: kernels split their work by where a tensor lies in memory
    near = {"rtol": 1e-12, "atol": 1e-12, "equal_nan": True}
    for i, y in walked.items():
        torch.testing.assert_close(y, expected[i], **near)
        torch.testing.assert_close(everything[i], y, **near)


@given(samples())
def test_what_is_held_is_what_a_later_section_needs(sample: Sample) -> None:
    network = sample.network
    held = Held(network.consumers, IMAGE)
    for i, layer in enumerate(network.layers):
        assert held.inputs(layer) == list(layer.sources)
        held.keep(layer, i)
        later = {source for other in network.layers[i + 1 :] for source in other.sources}
        assert set(held.values()) == {source for source in later if source <= i}
        assert held.get(i) == (i if i in later else None)


def test_outputs_are_freed_while_others_are_computed() -> None:
    network = build(NET + plain(4) + plain(4) + plain(4) + route(0) + plain(2))
    seen: list[weakref.ref[torch.Tensor]] = []
    alive = []

    def visit(layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor:
        alive.append([i for i, ref in enumerate(seen) if ref() is not None])
        y = torch.relu(layer(*inputs)) + 0
        seen.append(weakref.ref(y))
        return y

    with torch.no_grad():
        for _ in network.walk(random_input(network), visit):
            pass
    # 0 waits for the route; 2 feeds nothing and is only what the loop has just been given
    assert alive == [[], [0], [0, 1], [0, 2], [3]]


def test_a_section_that_feeds_no_other_can_be_left_out() -> None:
    network = build(NET + plain(4) + plain(4) + route(0) + plain(2))
    left_out = [layer for i, layer in enumerate(network.layers) if not network.consumers[i]]

    def visit(layer: Layer, inputs: list[torch.Tensor]) -> torch.Tensor | None:
        return None if layer in left_out else call(layer, inputs)

    walked = [i for i, _ in network.walk(random_input(network), visit)]
    assert walked == [0, 2]
    assert [layer.section.index for layer in left_out] == [1, 3]
