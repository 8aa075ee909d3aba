"""tools/convert.py ssd-torch: state dicts of amdegroot/ssd.pytorch against a network of torch's."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from paths import ROOT
from torch import nn

from yolo.cfg import Cfg
from yolo.models.load import load_model
from yolo.network import Network
from yolo.training.start import Start

CFG = ROOT / "cfg" / "ssd300-vgg16-voc.cfg"
MEAN = torch.tensor([123.0, 117.0, 104.0])[:, None, None]
BOXES = (4, 6, 6, 6, 4, 4)
NARROW = 16  # a narrow network has a 16th of the channels


def vgg(narrow: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = 3
    plan = (64, 64, "M", 128, 128, "M", 256, 256, 256, "C", 512, 512, 512, "M", 512, 512, 512)
    for width in plan:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=width == "C"))
        else:
            layers += [nn.Conv2d(before, width // narrow, 3, padding=1), nn.ReLU()]
            before = width // narrow
    wide = 1024 // narrow
    layers += [nn.MaxPool2d(3, 1, 1), nn.Conv2d(before, wide, 3, padding=6, dilation=6), nn.ReLU()]
    return [*layers, nn.Conv2d(wide, wide, 1), nn.ReLU()]


def extras(narrow: int) -> list[nn.Module]:
    before, layers = 1024 // narrow, []
    for filters1, filters3, stride in ((256, 512, 2), (128, 256, 2), (128, 256, 1), (128, 256, 1)):
        filters1, filters3 = filters1 // narrow, filters3 // narrow
        layers.append(nn.Conv2d(before, filters1, 1))
        layers.append(nn.Conv2d(filters1, filters3, 3, stride, padding=stride - 1))
        before = filters3
    return layers


class Norm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(channels) * 10 + 15)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) * self.weight[:, None, None]


class Ssd300(nn.Module):
    """The network and its names, as that project has them."""

    def __init__(self, classes: int = 20, narrow: int = NARROW) -> None:
        super().__init__()
        torch.manual_seed(classes)
        self.vgg, self.extras = nn.ModuleList(vgg(narrow)), nn.ModuleList(extras(narrow))
        self.L2Norm = Norm(512 // narrow)
        widths = [w // narrow for w in (512, 1024, 512, 256, 256, 256)]
        pairs = list(zip(widths, BOXES, strict=True))
        self.loc = nn.ModuleList(nn.Conv2d(w, b * 4, 3, padding=1) for w, b in pairs)
        self.conf = nn.ModuleList(nn.Conv2d(w, b * (classes + 1), 3, padding=1) for w, b in pairs)
        for conv in [m for m in self.modules() if isinstance(m, nn.Conv2d)]:
            nn.init.kaiming_normal_(conv.weight)
            nn.init.normal_(conv.bias, std=0.1)

    def body(self, x: torch.Tensor) -> list[torch.Tensor]:
        """An image without its mean → conv4_3 and conv7"""
        pool4 = [i for i, m in enumerate(self.vgg) if isinstance(m, nn.MaxPool2d)][3]
        for layer in self.vgg[:pool4]:
            x = layer(x)
        conv4 = x
        for layer in self.vgg[pool4:]:
            x = layer(x)
        return [conv4, x]

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """An image without its mean → what loc and conf give of every map"""
        conv4, x = self.body(x)
        maps = [self.L2Norm(conv4), x]
        for conv1, conv3 in zip(self.extras[::2], self.extras[1::2], strict=True):
            x = F.relu(conv3(F.relu(conv1(x))))
            maps.append(x)
        loc = [conv(m) for conv, m in zip(self.loc, maps, strict=True)]
        return loc, [conv(m) for conv, m in zip(self.conf, maps, strict=True)]


MODEL = Ssd300()
STATE = MODEL.state_dict()


def rows(maps: list[torch.Tensor], width: int) -> torch.Tensor:
    """As its forward joins them: (N, boxes, width)"""
    flat = [m.permute(0, 2, 3, 1).contiguous().view(len(m), -1) for m in maps]
    return torch.cat(flat, 1).view(len(maps[0]), -1, width)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert theirs.std() > 0.01


def assert_same(network: Network, model: Ssd300, classes: int = 20, swap: bool = False) -> None:
    """All that enters [ssd], and what it joins; `swap`: the model sees BGR."""
    image = torch.rand(1, 3, 300, 300, generator=torch.Generator().manual_seed(1))
    (head,) = network.heads
    sources = network.layers[head].sources
    with torch.inference_mode():
        ours = network(image, [*sources, head])
        prepared = 255 * image - MEAN
        loc, conf = model(prepared.flip(1) if swap else prepared)
    for index, theirs in zip(sources, [*loc, *conf], strict=True):
        assert_close(ours[index], theirs)
    joined = torch.cat((rows(loc, 4), rows(conf, classes + 1)), 2)
    assert_close(ours[head][..., 0].transpose(1, 2), joined)


@pytest.fixture
def narrow(tmp_path):
    """The path of a cfg with a 16th of the channels, made of the real one."""
    cfg = Cfg.load(CFG)
    (head,) = Network(cfg).heads
    fixed = Network(cfg).layers[head].sources
    sections = [s for s in cfg.layers if s.type == "convolutional" and s.index not in fixed]
    filters = {s.index: {"filters": s.integer("filters") // NARROW} for s in sections}
    path = tmp_path / "cfg" / "narrow.cfg"
    cfg.edited(filters).write(path)
    return path


@pytest.fixture
def convert(command, narrow, tmp_path):
    """Save a state dict and convert it: how the command ended, and the path that it should write"""

    def run(content, *options, cfg=narrow, out="out.weights"):
        torch.save(content, tmp_path / "given.pth")
        model = ("--cfg", cfg) if cfg else ()
        ended = command.run(
            "convert", "ssd-torch", tmp_path / "given.pth", tmp_path / out, *model, *options
        )
        return ended, tmp_path / out

    return run


def load(path):
    return load_model(str(path.with_suffix(".cfg")), str(path))[0]


# ---- what is converted


def test_the_network_itself(convert):
    model = Ssd300(narrow=1)
    ended, path = convert(model.state_dict(), cfg=None)
    assert (ended.code, ended.err) == (0, "")
    assert path.with_suffix(".cfg").read_bytes() == clipped(CFG)
    assert os.path.getsize(path) == 20 + 4 * sum(p.numel() for p in model.parameters())
    assert_same(load(path), model)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_colours(convert, channels):
    ended, path = convert(STATE, "--channels", channels)
    assert ended.code == 0
    assert f"from {channels}" in ended.out
    assert_same(load(path), MODEL, swap=channels == "bgr")
    with pytest.raises(AssertionError):
        assert_same(load(path), MODEL, swap=channels != "bgr")


@pytest.mark.parametrize("classes", [1, 3])
def test_other_classes(convert, narrow, classes):
    model = Ssd300(classes)
    ended, path = convert(model.state_dict())
    assert ended.code == 0
    network = load(path)
    assert network.cfg.layers[-1].integer("classes") == classes
    assert_same(network, model, classes)
    assert len(network.cfg.layers) == len(Cfg.load(narrow).layers)


def test_wrapped_prefixed_shuffled_and_of_another_type(convert):
    _, path = convert(STATE)
    plain = path.read_bytes()
    parallel = OrderedDict((f"module.{name}", t) for name, t in reversed(STATE.items()))
    parameters = {name: nn.Parameter(tensor.double()) for name, tensor in STATE.items()}
    for content in (
        {"state_dict": STATE, "epoch": 3},
        {"model": parallel, "optimizer": {"lr": [1e-3]}},
        {"model": {"model_state_dict": STATE}},
        parameters,
        parallel,
    ):
        path.unlink()
        ended, _ = convert(content)
        assert ended.code == 0, ended.err
        assert path.read_bytes() == plain


# ---- backbones


@pytest.mark.parametrize("prefix", ["", "vgg.", "module."])
def test_a_backbone_starts_a_training(convert, narrow, prefix):
    state = {prefix + name: tensor for name, tensor in MODEL.vgg.state_dict().items()}
    ended, path = convert(state)
    assert ended.code == 0
    cutoff = sum(not isinstance(layer, nn.ReLU) for layer in MODEL.vgg)  # no section of its own
    assert f"the first {cutoff} sections (--cutoff {cutoff})" in ended.out
    assert path.with_suffix(".cfg").read_bytes() == narrow.read_bytes()
    network, header, _ = Start(str(narrow), str(path), cutoff).network()
    assert header.seen == 0
    image = torch.rand(1, 3, 300, 300)
    with torch.inference_mode():
        theirs = MODEL.body(255 * image - MEAN)[1]
        assert_close(network(image, [cutoff - 1])[cutoff - 1], theirs)


@pytest.mark.parametrize("convolutions", [13, 15, 18, 23])
def test_backbones_of_other_lengths(convert, narrow, convolutions):
    trunk = [n for n in STATE if n.startswith(("vgg", "extras"))][: 2 * convolutions]
    ended, path = convert({name: STATE[name] for name in trunk})
    assert ended.code == 0
    cutoff = int(ended.out.split("--cutoff ")[1].split(")")[0])
    kinds = [section.type for section in Cfg.load(narrow).layers[:cutoff]]
    assert (kinds.count("convolutional"), kinds[-1]) == (convolutions, "convolutional")
    network, *_ = Start(str(narrow), str(path), cutoff).network()
    stored = [section["weights"] for section in network.state().values() if "weights" in section]
    for name, weights in zip(trunk[::2], stored, strict=False):
        assert torch.equal(weights, STATE[name])


# ---- where it goes


def test_a_bayesian_cfg_starts_from_the_same_weights(convert, command, narrow, tmp_path):
    assert command.run("convert", "bayesian", narrow, tmp_path / "b.cfg").code == 0
    _, plain = convert(STATE)
    ended, path = convert(STATE, cfg=tmp_path / "b.cfg", out="bayesian.weights")
    assert ended.code == 0, ended.err
    assert path.read_bytes() == plain.read_bytes()
    assert path.with_suffix(".cfg").read_bytes() == clipped(tmp_path / "b.cfg")


def clipped(path):
    """The cfg with the prior boxes of that project's own models."""
    return path.read_bytes().replace(b"\nclip=0\n", b"\nclip=2\n")


def test_beside_its_own_cfg(convert, narrow):
    narrow.write_bytes(clipped(narrow))
    before = narrow.stat()
    ended, path = convert(STATE, out="cfg/narrow.weights")
    assert (ended.code, narrow.stat()) == (0, before)
    assert "narrow.cfg" not in ended.out
    assert_same(load(path), MODEL)
    path.unlink()
    ended, path = convert(Ssd300(classes=3).state_dict(), out="cfg/narrow.weights")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f"has other classes than {narrow}" in ended.err
    assert os.listdir(narrow.parent) == [narrow.name]


# ---- what is refused


def edited(without=(), **edits):
    """The state dict without some names, others added or replaced; _ stands for a dot."""
    kept = {name: tensor for name, tensor in STATE.items() if not name.startswith(without)}
    return kept | {name.replace("_", "."): tensor for name, tensor in edits.items()}


def assert_refused(ended, path, reason):
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith(f"error: {path.parent / 'given.pth'}: ")
    assert reason in ended.err
    assert not path.exists()
    assert not path.with_suffix(".cfg").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (edited(("vgg.0.bias",)), "vgg.0.bias is missing: "),
        (edited(("L2Norm",)), "L2Norm.weight is missing: "),
        (edited(("loc",)), "loc.0.bias is missing: "),
        (edited(("conf.0",)), "conf.0.bias is missing: "),
        (edited(("conf.5",)), "conf.5.bias is missing: "),
        (edited(("extras.7",)), "22 convolutions in vgg and extras, but 23 in "),
        (edited(vgg_99_weight=torch.ones(1)), "24 convolutions in vgg and extras, but 23 in "),
        (edited(loc_2_weight=STATE["loc.2.weight"][1:]), "loc.2.weight has the shape 23x"),
        (edited(conf_0_weight=STATE["conf.0.weight"][1:]), "conf.0.weight has 83 filters"),
        (edited(conf_0_weight=torch.tensor(1.0)), "conf.0.weight has 0 filters"),
        (edited(conf_1_weight=STATE["conf.1.weight"][6:]), "conf.1.weight has the shape 120x"),
        (edited(loc_6_bias=torch.ones(16)), "'loc.6.bias' belongs to no section of "),
        (edited(classifier_0_bias=torch.ones(1)), "'classifier.0.bias' belongs to no section of "),
        (edited(extras_1_bias=STATE["extras.1.bias"] / 0), "not all numbers of extras.1.bias"),
        (edited(priors=torch.ones(3, 4, dtype=int)), "'priors' doesn't hold plain floating-point"),
        (edited(epoch=3), "is not a state dict: 'epoch' is of type int, not a tensor"),
        ({"net": dict(STATE)}, "is not a state dict: 'net' is of type dict"),
        ({"features.0.weight": torch.ones(1)}, "0 convolutions in vgg and extras"),
        ({}, "is not a state dict: it holds nothing"),
        ([torch.ones(1)], "is not a state dict: it holds a list"),
        (torch.ones(3), "is not a state dict: it holds a Tensor"),
    ],
)
def test_wrong_tensors_are_one_line(convert, content, reason):
    assert_refused(*convert(content), reason)


def test_a_cfg_with_more_than_a_file_can_give(convert, narrow):
    cfg = Cfg.load(narrow)
    cfg.edited({0: {"batch_normalize": 1}}).write(narrow)
    assert_refused(*convert(STATE), "vgg.0 has no scales: ")
    (narrow.parent / "b.cfg").write_bytes(b"\n".join(cfg.to_bytes().split(b"\n")[:100]))
    ended, _ = convert(STATE, cfg=narrow.parent / "b.cfg")
    assert (ended.code, ended.err) == (
        2,
        f"error: {narrow.parent}/b.cfg: has 0 [ssd] sections, exactly one is needed\n",
    )


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_objects_are_refused(convert, tmp_path):
    for content in (MODEL, {"state_dict": STATE, "args": Trap(tmp_path / "trapped")}):
        assert_refused(*convert(content), "pickled objects are refused")
    assert not (tmp_path / "trapped").exists()


def test_files_of_other_kinds(command, convert, tmp_path):
    torch.save(STATE, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    half = whole[: len(whole) // 2]
    path, out = tmp_path / "given.pth", tmp_path / "out.weights"
    for content in (b"", b"\0" * 99, b"junk" * 9, half, CFG.read_bytes(), pickle.dumps([1], 4)):
        path.write_bytes(content)
        ended = command.run("convert", "ssd-torch", path, out)
        assert_refused(ended, out, "is not a state dict")
    path.unlink()
    ended = command.run("convert", "ssd-torch", path, out)
    assert_refused(ended, out, "can't read the state dict: no such file")
    ended, converted = convert(STATE, out="out.pt")
    assert (ended.code, converted.exists()) == (2, False)
    assert "expected a name that ends in .weights" in ended.err
