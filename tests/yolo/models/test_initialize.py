"""What training starts with: fresh tensors, those of another model, other classes."""

import math

import pytest
import torch
from cfgs import NET, conv, net, plain, route, yolo
from networks import build
from paths import ROOT
from tiny_data import CLASSIFIER, DETECTOR, make_detection_data

from yolo.cfg import Cfg
from yolo.errors import CfgError
from yolo.models.classes import with_classes
from yolo.models.initialize import initialize, transfer
from yolo.models.weights import load_weights, save_weights
from yolo.network import Network

CFGS = sorted((ROOT / "cfg").glob("*.cfg"))


def fresh(text: str, seed: int = 0) -> Network:
    network = Network(Cfg(text.encode(), "x.cfg"))
    initialize(network, seed)
    return network


def test_a_seed_makes_the_same_network():
    first, second, other = (fresh(DETECTOR, seed) for seed in (1, 1, 2))
    for index, tensors in first.state().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, second.state()[index][name])
    assert not torch.equal(first.state()[0]["weights"], other.state()[0]["weights"])


def test_activations_keep_their_size():
    """He: behind every leaky convolution the second moment stays about what it was."""
    network = fresh(net(16, 16, 64) + 6 * conv(128))
    x = torch.randn(4, 64, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = network(x, collect=range(6))
    moments = [float(out.square().mean()) for out in outputs.values()]
    assert all(0.3 < moment < 2 for moment in moments), moments


def test_heads_start_with_hardly_an_object():
    network = fresh(DETECTOR)
    with torch.no_grad():
        out = network(torch.rand(2, 3, 32, 32))
    head = network.layers[-1]
    boxes = head.decode(out[head.section.index])
    torch.testing.assert_close(boxes[..., 4].mean(), torch.tensor(0.01), rtol=0.2, atol=0)
    sizes = boxes[..., 2:4].reshape(2, 2, -1, 2) * 32
    assert (sizes[:, 0] - 8).abs().max() < 2
    assert (sizes[:, 1] - 16).abs().max() < 4


def test_region_heads_too():
    text = DETECTOR[: DETECTOR.index("[yolo]")] + (
        "[region]\nclasses=2\nnum=2\nanchors=1,1, 2,2\nsoftmax=1\n"
    )
    network = fresh(text)
    biases = network.state()[5]["biases"].reshape(2, 7)
    assert biases[:, 4].tolist() == pytest.approx([-math.log(99)] * 2)
    assert biases.count_nonzero() == 2


@pytest.mark.parametrize("path", CFGS, ids=lambda path: path.stem)
def test_every_cfg_can_be_initialised(path):
    network = Network(Cfg.load(path))
    if network.count_floats() > 3e7:
        pytest.skip("large: another cfg of its family is tried")
    initialize(network)
    assert all(t.isfinite().all() for ts in network.state().values() for t in ts.values())


def test_what_is_there_stays(tmp_path):
    """A backbone is loaded, the rest is fresh."""
    whole = build(DETECTOR)
    save_weights(whole, tmp_path / "x.weights")
    body = Network(Cfg(DETECTOR.encode(), "x.cfg"))
    content = (tmp_path / "x.weights").read_bytes()
    sizes = [sum(t.numel() for t in ts.values()) for ts in whole.state().values()]
    (tmp_path / "x.conv.2").write_bytes(content[: 20 + 4 * sum(sizes[:2])])
    load_weights(body, tmp_path / "x.conv.2")
    initialize(body)
    for index in (0, 1):
        assert torch.equal(body.state()[index]["weights"], whole.state()[index]["weights"])
    assert not torch.equal(body.state()[2]["weights"], whole.state()[2]["weights"])


def test_transfer_takes_what_fits():
    other = build(DETECTOR)
    network = Network(with_classes(other.cfg, 5))
    assert transfer(network, other) == [5]
    initialize(network)
    assert torch.equal(network.state()[2]["weights"], other.state()[2]["weights"])
    network.state()[2]["weights"].zero_()
    assert other.state()[2]["weights"].any()  # a copy, not the same memory


@pytest.mark.parametrize("path", CFGS, ids=lambda path: path.stem)
def test_other_classes_change_what_feeds_the_heads_alone(path):
    """Then the right number of classes again gives the document as it was."""
    cfg = Cfg.load(path)
    before = Network(cfg)
    heads = [before.layers[i] for i in before.heads]
    known = getattr(heads[0], "classes", heads[0].out_shape.elements)
    changed = with_classes(cfg, known + 3)
    after = Network(changed)
    touched = {s for head in heads for s in (*head.sources, head.section.index)}
    for a, b in zip(before.layers, after.layers, strict=True):
        if hasattr(heads[0], "classes") and a.section.index not in touched:
            assert a.out_shape == b.out_shape
    for index in before.heads:
        a, b = before.layers[index], after.layers[index]
        if a.section.type == "ssd":
            assert b.classes == a.classes + 3
            assert b.out_shape.channels == a.out_shape.channels + 3
            assert torch.equal(a.priors, b.priors)
        elif hasattr(a, "classes"):
            assert b.classes == a.classes + 3
            assert b.out_shape.channels - a.out_shape.channels == 3 * len(a.anchors)
        else:
            assert b.out_shape.elements == a.out_shape.elements + 3
    assert with_classes(changed, known).to_bytes() == cfg.to_bytes()


def test_a_classifier_gets_more_classes():
    network = Network(with_classes(Cfg(CLASSIFIER.encode(), "x.cfg"), 7))
    assert network.layers[-1].out_shape.elements == 7


def test_a_head_that_nothing_of_its_own_feeds():
    text = NET + plain(6) + route(-1, -1) + yolo(1, "0,1", "1,1, 2,2")
    with pytest.raises(CfgError, match=r"x.cfg:10: \[route\] feeds a head"):
        with_classes(Cfg(text.encode(), "x.cfg"), 2)


def test_the_command_writes_a_cfg_for_the_classes_of_a_data_set(tmp_path, command):
    data = make_detection_data(tmp_path)
    (tmp_path / "x.cfg").write_text(with_classes(Cfg(DETECTOR.encode()), 5).to_bytes().decode())
    out = tmp_path / "two.cfg"
    ended = command.run("convert", "classes", tmp_path / "x.cfg", out, "--data", data)
    assert (ended.code, ended.out) == (0, f"Written: {out} for 2 classes\n")
    assert out.read_text() == DETECTOR
    ended = command.run("convert", "classes", tmp_path / "x.cfg", tmp_path / "x.cfg", "--num", 2)
    assert ended.code == 2
    assert ended.err.endswith("x.cfg: is read here, so it isn't written\n")
