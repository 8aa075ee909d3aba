"""Blocks removed from the models in cfg/ and from trained ones, and run by engines."""

import os

import pytest
import torch
from cfgs import HEAD, RESIDUAL, conv, net, route, shortcut
from networks import build
from paths import ROOT
from random_blocks import difference
from trained_models import trained_model

from pruning.cut.blocks import remove, residual_blocks
from pruning.proof.engines.base import Engine, EngineError
from pruning.proof.engines.darknet import Darknet
from pruning.proof.engines.opencv import OpenCV
from pruning.proof.verify import relative
from yolo.cfg import Cfg
from yolo.models.randomize import noise_image, randomize
from yolo.models.weights import load_weights
from yolo.network import Network

# shortcuts that can go, of all
FOUND = {
    "csresnext50-panet-spp": (12, 13),
    "darknet53": (23, 23),
    "digits": (4, 4),
    "enet-coco": (10, 13),
    "resnet18": (5, 8),
    "resnet34": (13, 16),
    "resnet50": (12, 16),
    "ssd-fastest": (18, 18),
    "ssd-lite": (6, 6),
    "yolo-fastest-1.1": (18, 18),
    "yolov3": (23, 23),
    "yolov3-spp": (23, 23),
    "yolov3-tiny": (0, 0),
    "yolov4": (23, 23),
    "yolov4-csp": (23, 23),
}
RUN = ("csresnext50-panet-spp", "darknet53", "enet-coco", "resnet18", "resnet50", "yolov3")
RUN += ("yolov4", "yolov4-csp")
# pixels, where 96 are too many or too few
SIZES = {"yolov4": 64, "ssd-fastest": 320, "ssd-lite": 300}
NET = net(12, 10)
MODELS = ("mobilenetv2-yolo-fastest-voc", "mobilenetv2-yolov3-nano-coco", "yoloface-50k")


@pytest.mark.parametrize("name", FOUND)
def test_blocks_of_real_networks(name):
    blocks = residual_blocks(Network(Cfg.load(ROOT / "cfg" / f"{name}.cfg")))
    assert (sum(b.reason is None for b in blocks), len(blocks)) == FOUND[name]


def real(path, side=96):
    """A real cfg, for small images, with made-up weights."""
    network = Network(Cfg.load(path).edited({-1: {"width": side, "height": side}}))
    randomize(network)
    return network


def half(network):
    """Every other block that can go."""
    blocks = [block for block in residual_blocks(network) if block.reason is None][::2]
    return blocks, remove(network, network.state(), blocks)


@pytest.mark.parametrize("name", RUN)
def test_half_of_the_blocks_of_real_networks(name):
    network = real(ROOT / "cfg" / f"{name}.cfg", SIZES.get(name, 96))
    blocks, removal = half(network)
    assert len(blocks) == (FOUND[name][0] + 1) // 2
    x = noise_image(network)
    assert difference(network, network.state(), blocks, removal, x) <= 1e-6
    smaller = Network(removal.cfg.strict())
    assert smaller.macs() < network.macs()
    assert smaller.count_floats() < network.count_floats()


def engine(name) -> Engine:
    if name == "AlexeyAB" and "ALEXEY_LIB" not in os.environ:
        pytest.skip("needs a build of AlexeyAB's Darknet: ALEXEY_LIB")
    try:
        return OpenCV() if name == "OpenCV" else Darknet(os.environ["ALEXEY_LIB"])
    except EngineError as error:
        pytest.skip(str(error))


def in_engine(name, network):
    """The largest relative L2 difference at what enters the heads."""
    x, heads = noise_image(network), network.head_inputs
    outputs = engine(name).run(network.cfg, network, x.numpy(), heads)
    with torch.no_grad():
        return relative({i: torch.from_numpy(a) for i, a in outputs.items()}, network(x, heads))


@pytest.mark.parametrize("name", ["OpenCV", "AlexeyAB"])
@pytest.mark.parametrize("model", ["digits", "enet-coco", "resnet18", "yolo-fastest-1.1"])
def test_engines_run_what_is_left(name, model):
    network = real(ROOT / "cfg" / f"{model}.cfg")
    _, removal = half(network)
    smaller = Network.with_state(removal.cfg.strict(), removal.state)
    assert in_engine(name, smaller) < 1e-4


@pytest.mark.parametrize("name", ["OpenCV", "AlexeyAB"])
@pytest.mark.parametrize("activation", ["leaky", "mish", "swish", "logistic"])
def test_engines_run_what_stays_of_a_shortcut(name, activation):
    """Depthwise convolutions, and a [route] to a skip that stands elsewhere."""
    text = (
        NET + conv() + route(0) + conv(6) + route(0) + conv() + shortcut(0, activation=activation)
    )
    text += RESIDUAL.replace("linear", activation) + conv(3) + route(-1, 2) + HEAD
    network = build(text.replace("=12", "=32", 1).replace("=10", "=32", 1))
    removal = remove(network, network.state(), residual_blocks(network))
    assert sum(section.has("groups") for section in removal.cfg.layers) == 2 - (
        activation == "relu"
    )
    assert in_engine(name, Network.with_state(removal.cfg.strict(), removal.state)) < 1e-4


@pytest.mark.parametrize("name", ["OpenCV", "AlexeyAB"])
@pytest.mark.parametrize("model", MODELS)
def test_trained_models_without_half_of_their_blocks(name, model):
    path, weights = trained_model(model)
    network = Network(Cfg.load(path).edited({-1: {"width": 96, "height": 96}}))
    load_weights(network, weights)
    blocks, removal = half(network)
    assert difference(network, network.state(), blocks, removal, noise_image(network)) <= 1e-6
    smaller = Network.with_state(removal.cfg.strict(), removal.state)
    assert in_engine(name, smaller) < 1e-4
