"""The models in cfg/: their layers, parameters and shapes are the published ones."""

import re
from dataclasses import astuple
from pathlib import Path

import pytest
from paths import ROOT
from published import PUBLISHED

from pruning.bayesian.convert import with_posteriors
from yolo.cfg import Cfg
from yolo.network import Network

FOLDER = ROOT / "cfg"
OUTPUTS = {"yolo", "region", "softmax"}
BAYESIAN = "-bayesian"
FILES = sorted(path for path in FOLDER.glob("*.cfg") if not path.stem.endswith(BAYESIAN))
BAYESIAN_FILES = sorted(FOLDER.glob(f"*{BAYESIAN}.cfg"))


def sections(path: Path) -> list[tuple[str, list[str]]]:
    """(type, keys) of every section, read without the project's parser."""
    blocks = re.split(r"^\[(\w+)\]$", path.read_text(), flags=re.MULTILINE)[1:]
    pairs = zip(blocks[::2], blocks[1::2], strict=True)
    return [(kind, re.findall(r"^(\w+)=", body, re.MULTILINE)) for kind, body in pairs]


def test_every_file_is_in_the_table():
    assert {path.stem for path in FILES} == set(PUBLISHED)


@pytest.mark.parametrize("path", BAYESIAN_FILES, ids=lambda path: path.stem)
def test_bayesian_files_are_converted_plain_ones(path):
    plain = Cfg.load(path.with_name(path.name.replace(BAYESIAN, "")))
    made = with_posteriors(plain)
    assert made.to_bytes() == path.read_bytes()
    network = Network(made)
    assert network.plain().cfg.to_bytes() == plain.to_bytes()
    heads = Network(plain).head_inputs if "ssd" in path.stem else ()  # classes have priors, too
    counts = [section.type.startswith("bayesian_") for section in made.layers]
    weighted = [
        section.type in ("convolutional", "connected") and section.index not in heads
        for section in plain.layers
    ]
    assert counts == weighted
    assert len(BAYESIAN_FILES) == 7
    assert "ssd" not in path.stem or sum(counts) == 23


@pytest.fixture(scope="module", params=PUBLISHED)
def model(request):
    return Network(Cfg.load(FOLDER / f"{request.param}.cfg")), PUBLISHED[request.param]


def test_counts(model):
    net, published = model
    counted = len(net.layers), net.count_floats(), net.count_parameters()
    assert counted == (published.layers, published.floats, published.parameters)


def test_shapes(model):
    net, published = model
    expected = published.heads | published.inner
    assert {i: astuple(net.layers[i].out_shape) for i in expected} == expected


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_head_inputs_are_all_listed(path):
    kinds = [kind for kind, _ in sections(path)[1:]]
    heads = [i - 1 for i, kind in enumerate(kinds) if kind in OUTPUTS]
    for numbers in re.findall(r"^(?:loc|conf)=(.*)$", path.read_text(), re.MULTILINE):
        heads += map(int, numbers.split(","))
    assert heads == list(PUBLISHED[path.stem].heads)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_header_states_the_parameters(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert first.endswith(f": {PUBLISHED[path.stem].parameters:,} parameters")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_layout_suits_the_strictest_reader(path):
    data = path.read_bytes()
    assert b"\r" not in data
    assert data.endswith(b"\n")
    for line in data.decode("ascii").splitlines():
        assert re.fullmatch(r"(#.*|\[\w+\]|\w+=[^\s=]+|)", line), line


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_keys_are_unique_and_activations_written(path):
    for kind, keys in sections(path):
        assert len(keys) == len(set(keys)), (kind, keys)
        if kind in {"convolutional", "connected", "shortcut"}:
            assert "activation" in keys
