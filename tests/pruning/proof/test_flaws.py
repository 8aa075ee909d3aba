"""Engines that are known to compute some sections wrongly are compared without these."""

import os
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from cfgs import HEAD, connected, conv, maxpool, net, route
from networks import build
from torch import Tensor

from pruning.proof.engines.darknet import Darknet
from pruning.proof.flaws import blamed, detours, untouched
from pruning.proof.verify import ENGINE, prove_engine
from yolo.cfg import Cfg
from yolo.errors import ProofError
from yolo.layers import Layer
from yolo.layers.pooling import MaxPool
from yolo.network import Network

SPP = conv(4) + maxpool(5, 1) + route(-2) + maxpool(3, 1) + route(-1, -3, -4)
DETECTOR = net(64, 32) + conv(4) + HEAD + route(-3) + SPP + HEAD


class Avx:
    """An engine that misses taps of pools wider than `widest`; sections `wrong` are off, too."""

    name = "Avx"
    flaw = "it computes wide max pools wrongly"

    def __init__(self, wrong: Sequence[int] = (), widest: int = 40) -> None:
        self.wrong, self.widest = wrong, widest

    def flawed(self, network: Network) -> tuple[int, ...]:
        return tuple(i for i, layer in enumerate(network.layers) if self._is_wide(layer))

    def _is_wide(self, layer: Layer) -> bool:
        return isinstance(layer, MaxPool) and layer.out_shape.width > self.widest

    def run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        flawed = self.flawed(network)

        def compute(layer: Layer, inputs: list[Tensor]) -> Tensor | None:
            y = layer(*inputs)
            index = layer.section.index
            if index in flawed:
                y[..., 1] = inputs[0][..., 1]
            return y * 1.01 if index in self.wrong else y

        with torch.no_grad():
            outputs = dict(network.walk(torch.from_numpy(x), compute))
        return {i: outputs[i].numpy() for i in layers}


def test_a_narrower_image_proves_all_sections() -> None:
    network = build(DETECTOR)
    found = prove_engine(Avx(), network, network)
    assert found.value == 0
    assert found.note == "in Avx at 32x32: it computes wide max pools wrongly (line 29)"


def test_sections_before_it_are_proven_where_the_size_is_fixed() -> None:
    network = build(net(64, 32) + conv(4) + HEAD + route(-3) + SPP + connected(8) + "[softmax]\n")
    found = prove_engine(Avx(), network, network)
    assert found.value == 0
    assert found.note == "in Avx up to there: it computes wide max pools wrongly (line 29)"


def test_nothing_before_it_is_no_proof() -> None:
    network = build(net(64, 32) + maxpool(3, 1) + connected(8) + "[softmax]\n")
    found = prove_engine(Avx(), network, network)
    assert found.value is None
    assert found.note.endswith("wrongly (line 5): nothing comes before that")


def test_another_difference_is_not_blamed_on_it() -> None:
    """Whatever differs before the pools, or where the pools agree, has another cause."""
    network = build(DETECTOR)
    for engine in (Avx([0]), Avx([1]), Avx([9], widest=1000)):
        found = prove_engine(engine, network, network)
        assert found.value is None
        assert "differs from torch by" in found.note
        assert found.note.endswith("on the original already")


def test_what_differs_in_narrow_images_too_is_left_out() -> None:
    network = build(DETECTOR)
    found = prove_engine(Avx([network.head_inputs[-1]]), network, network)
    assert found.value is None
    assert "wide max pools wrongly (line 29), and it differs by" in found.note
    assert found.note.endswith("at 32x32, too")


def test_a_wrong_compact_network_is_still_found() -> None:
    network, compact = build(DETECTOR), build(DETECTOR, seed=1)
    own = compact.state()[0]["weights"]

    class Broken(Avx):
        def run(
            self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
        ) -> dict[int, np.ndarray]:
            found = super().run(cfg, network, x, layers)
            factor = 1.01 if torch.equal(network.state()[0]["weights"], own) else 1
            return {i: array * factor for i, array in found.items()}

    with pytest.raises(ProofError, match=r"x\.cfg: Avx differs from torch by 1\.0e-02"):
        prove_engine(Broken(), network, compact)


def test_a_pool_of_the_compact_network_alone_may_show_it() -> None:
    """The original's pool is narrow enough."""
    narrow, wide = build(DETECTOR).resized(32, 32), build(DETECTOR)
    found = prove_engine(Avx(), narrow, wide)
    assert found.value == 0
    assert "wide max pools wrongly" in found.note


def test_an_engine_without_known_flaws_gets_no_second_chance() -> None:
    class Plain:
        name = "Plain"

        def run(
            self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
        ) -> dict[int, np.ndarray]:
            return Avx().run(cfg, network, x, layers)

    network = build(DETECTOR)
    assert prove_engine(Plain(), network, network).note.endswith("on the original already")


def test_the_sections_before_flawed_ones() -> None:
    network, engine = build(DETECTOR), Avx()
    assert engine.flawed(network) == (5, 7)
    assert untouched(engine, network) == [4, 6, 1]
    assert blamed(engine, network, lambda network, layers: float(layers == [5]), ENGINE) == 5
    (detour,) = detours(engine, [network])
    assert (detour.network.image.width, detour.sections) == (32, network.head_inputs)
    (detour,) = detours(Avx(widest=0), [network])
    assert (detour.network, detour.sections) == (network, [4, 6, 1])


# Real builds of Darknet


@pytest.mark.parametrize(
    ("width", "size", "stride", "options", "expected"),
    [
        (10, 3, 1, {}, False),
        (11, 3, 1, {}, True),
        (12, 5, 1, {}, False),
        (13, 5, 1, {}, True),
        (40, 2, 1, {}, False),  # no tap lies left of the map
        (40, 3, 2, {}, False),
        (40, 2, 2, {}, False),
        (40, 2, 2, {"padding": 2}, True),
        (7, 2, 2, {"padding": 2}, False),
        (40, 3, 1, {"padding": 1}, False),
        (40, 3, 1, {"maxpool_depth": 1, "out_channels": 2}, False),
        (40, 3, 1, {"stride_y": 2}, False),
    ],
)
def test_pools_that_darknet_computes_wrongly(
    width: int, size: int, stride: int, options: dict[str, int], expected: bool
) -> None:
    library = os.environ.get("AVX_LIB")
    if not library:
        pytest.skip("needs a Darknet library built with AVX=1: AVX_LIB")
    network = build(net(width, 12) + conv(4) + maxpool(size, stride, **options))
    engine = Darknet(library)
    assert bool(engine.flawed(network)) == expected
    found = engine.run(network.cfg, network, PICTURES[width], [1])[1]
    with torch.no_grad():
        wanted = network(torch.from_numpy(PICTURES[width]), collect=[1])[1].numpy()
    assert bool(np.abs(found - wanted).max() > 1e-3) == expected


PICTURES = {
    width: np.random.default_rng(0).random((1, 3, 12, width), np.float32)
    for width in (7, 10, 11, 12, 13, 40)
}
