"""Networks in sections that engines know: the same numbers, in torch and in the engines."""

import json

import numpy as np
import pytest
import torch
from cfgs import NET, conv, maxpool, net, plain, route, shortcut
from networks import build

from pruning.proof.engines.base import EngineError
from pruning.proof.engines.darknet import Darknet
from pruning.proof.engines.opencv import OpenCV
from pruning.proof.verify import relative
from yolo.cfg import Cfg
from yolo.detections import detect, suppression
from yolo.errors import CfgError
from yolo.export.portable import portable
from yolo.export.split import split
from yolo.files import write_files
from yolo.inference.opencv import OpenCVNetwork
from yolo.models.checkpoint import Checkpoint, checkpoint_writer
from yolo.models.randomize import noise_image, randomize
from yolo.network import Network

# two maps, of which the first one is normalised
MODEL = (
    net(40, 32, image_mean="120,110,100", image_scale=0.02)
    + conv(8, stride=2, activation="relu")
    + "\n# the norm's source\n"
    + plain(12, 3, activation="relu")
    + maxpool()
    + plain(10, 3, dilation=3, activation="relu")
    + plain(10, activation="relu")
    + shortcut(-2)
    + route(1)
    + "[l2norm]\nscale=10\n"
    + plain(16, 3)
    + route(-2)
    + plain(12, 3)
    + (route(5) + plain(16, 3) + route(5) + plain(12, 3))
    + "[ssd]\nclasses=2\nloc=8,12\nconf=10,14\nmin_sizes=8,16\nmax_sizes=12,24\naspect_ratios=2\n"
)


@pytest.fixture
def network():
    network = build(MODEL)
    randomize(network)
    return network


def outputs(network, form, x):
    """What enters the heads, as the portable network computes it, by the original's sections."""
    at = {i: form.places[i] for i in network.head_inputs if i in form.places}
    with torch.no_grad():
        computed = form.network(x, collect=at.values())
    return {i: computed[section] for i, section in at.items()}


def expected_of(network, x):
    with torch.no_grad():
        return network(x, collect=network.head_inputs)


@pytest.mark.parametrize("dilation", [True, False])
def test_for_darknet(network, dilation):
    form, x = portable(network, dilation), noise_image(network)
    assert relative(outputs(network, form, x), expected_of(network, x)) < 1e-5
    kinds = {section.type for section in form.network.cfg.layers}
    assert kinds == {"convolutional", "maxpool", "shortcut", "route", "normalization"}
    assert {layer.dilation for layer in form.network.layers if hasattr(layer, "dilation")} == (
        {1, 3} if dilation else {1}
    )
    assert not form.network.cfg.net.has("image_mean")
    assert "# the norm's source" in form.network.cfg.to_bytes().decode()


def test_what_is_computed_outside_stands_between_two_parts(network):
    first, (tail,) = split(network)
    x = noise_image(network)
    with torch.no_grad():
        source = network(x, collect=[tail.source])[tail.source].numpy()
    normed = torch.from_numpy(tail.outside.compute(source))
    norms = normed.square().sum(1).sqrt()
    torch.testing.assert_close(norms, torch.ones_like(norms))
    computed = outputs(network, first, x) | outputs(network, tail.portable, normed)
    assert relative(computed, expected_of(network, x)) < 1e-5


def test_what_darknet_knows_stays_as_it_is():
    network = build(NET + plain(4, 3, activation="relu"))
    randomize(network)
    form = portable(network)
    assert form.network is network
    assert form.cfg_like(network.cfg) is network.cfg
    assert split(network)[1] == []


def test_a_tail_that_needs_the_rest():
    network = build(MODEL.replace(route(-2), route(-2, 1)))
    randomize(network)
    x = noise_image(network)
    assert relative(outputs(network, portable(network), x), expected_of(network, x)) < 1e-5
    with pytest.raises(CfgError, match=r"\[route\] needs more than the \[l2norm\] in line"):
        split(network)


def engine(kind):
    try:
        return kind()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", [OpenCV, Darknet])
def test_engines_compute_the_heads(network, kind):
    x, heads = noise_image(network), network.head_inputs
    computed = engine(kind).run(network.cfg.strict(), network, x.numpy(), heads)
    with torch.no_grad():
        expected = network(x, collect=heads)
    assert relative({i: torch.from_numpy(a) for i, a in computed.items()}, expected) < 1e-3


def test_detections_with_opencv(network):
    x = noise_image(network)
    nms = suppression(network)
    with torch.no_grad():
        (expected,) = detect(network, network(x), 0.3, nms)
    (detections,) = detect(network, OpenCVNetwork(network).outputs(x), 0.3, nms)
    assert len(detections) == len(expected) > 0
    torch.testing.assert_close(detections.boxes, expected.boxes, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["darknet", "opencv"])
def test_export(network, kind, tmp_path, command):
    """The files alone are enough to find the boxes: what the .json says, done in numpy."""
    write_files([(tmp_path / "m.pt", checkpoint_writer(Checkpoint(network.cfg, network.state())))])
    ended = command.run("export", tmp_path / "m.pt", tmp_path / "e.weights", "--engine", kind)
    assert ended.code == 0, ended.err
    said = json.loads((tmp_path / "e.json").read_text())
    x = noise_image(network)
    computed = {}
    for path in sorted(tmp_path.glob("*.cfg"), key=lambda path: len(path.name)):
        part = _load(path)
        norms = [norm for norm in said["norms"] if norm["file"] == path.name]
        inputs = x
        for norm in norms:
            source = computed[norm["x"]["file"]][norm["x"]["section"]]
            inputs = source / (source.square().sum(1, keepdim=True) + norm["eps"]).sqrt()
        with torch.no_grad():
            computed[path.name] = part(inputs, collect=range(len(part.layers)))
    (ssd,) = said["ssd"]
    parts = [
        np.concatenate([_rows(computed[p["file"]][p["section"]], width) for p in ssd[key]])
        for key, width in (("loc", 4), ("conf", 1 + ssd["classes"]))
    ]
    with torch.no_grad():
        out = network(x)[len(network.layers) - 1]
    expected = network.layers[-1].decode(out)[0].numpy()
    priors, shift = np.array(ssd["priors"]), parts[0] * ssd["variance"]
    boxes = np.concatenate(
        (priors[:, :2] + shift[:, :2] * priors[:, 2:], priors[:, 2:] * np.exp(shift[:, 2:])), 1
    )
    np.testing.assert_allclose(boxes, expected[:, :4], rtol=1e-4, atol=1e-5)
    shares = np.exp(parts[1]) / np.exp(parts[1]).sum(1, keepdims=True)
    np.testing.assert_allclose(shares[:, 1:], expected[:, 5:], rtol=1e-4, atol=1e-6)


def _load(path):
    from yolo.models.load import load_model

    return load_model(str(path), str(path.with_suffix(".weights")))[0]


def _rows(x, width):
    return x[0].permute(1, 2, 0).reshape(-1, width).double().numpy()


def test_wrong_exports(tmp_path, command):
    for arguments, message in (
        (
            ["m.weights", "e.weights"],
            "expected .pt to .weights, .weights to .pt, or one of them to .onnx",
        ),
        (["m.weights", "e.weights", "--engine", "opencv"], "--cfg is needed"),
        (["m.weights", "e.pt", "--cfg", "x", "--engine", "opencv"], "reads .weights"),
    ):
        ended = command.run("export", *arguments)
        assert ended.code == 2
        assert message in ended.err
        assert ended.err.count("\n") == 1


def test_ssd300_in_engines_terms():
    """Nothing but sections of Darknet, for both forms; the norm is the only part of its own."""
    network = Network(Cfg.load("cfg/ssd300-vgg16-voc.cfg"))
    network.to_empty(device="cpu")
    first, (tail,) = split(network)
    assert len(first.network.layers) + len(tail.portable.network.layers) == 54
    assert {s.type for s in portable(network).network.cfg.layers} == {
        "convolutional",
        "maxpool",
        "normalization",
        "route",
    }
