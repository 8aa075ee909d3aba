"""The .pt codec: what goes in comes out, and what isn't one is refused."""

import pickle
from pathlib import Path

import pytest
import torch
from networks import build
from tiny_data import DETECTOR

from yolo.cfg import Cfg
from yolo.errors import WeightsError
from yolo.files import write_files
from yolo.models.checkpoint import Checkpoint, checkpoint_writer, load_checkpoint
from yolo.models.load import load_model
from yolo.models.weights import Header
from yolo.network import Network


def write(path: Path, checkpoint: Checkpoint) -> Path:
    write_files([(path, checkpoint_writer(checkpoint))])
    return path


@pytest.fixture
def network() -> Network:
    return build(DETECTOR)


def test_all_comes_back(network, tmp_path):
    training = {"epoch": 3, "rows": [{"loss": 0.5}], "momentum": torch.rand(3), "size": (4, 5)}
    header = Header(0, 2, 5, 2**40)
    path = write(tmp_path / "x.pt", Checkpoint(network.cfg, network.state(), header, training))
    checkpoint = load_checkpoint(path)
    assert checkpoint.cfg.to_bytes() == network.cfg.to_bytes()
    assert checkpoint.header == header
    assert checkpoint.training["epoch"] == 3
    assert checkpoint.training["rows"] == [{"loss": 0.5}]
    assert torch.equal(checkpoint.training["momentum"], training["momentum"])
    for index, tensors in network.state().items():
        for name, tensor in tensors.items():
            assert torch.equal(checkpoint.state[index][name], tensor)


def test_a_cfg_of_any_bytes_comes_back(tmp_path):
    text = b"# caf\xe9 \xff\n" + DETECTOR.replace("\n", "\r\n").encode()
    cfg = Cfg(text, "x.cfg")
    network = build(DETECTOR)
    path = write(tmp_path / "x.pt", Checkpoint(cfg, network.state()))
    assert load_checkpoint(path).cfg.to_bytes() == text


def test_it_loads_as_weights_only(network, tmp_path):
    path = write(tmp_path / "x.pt", Checkpoint(network.cfg, network.state()))
    content = torch.load(path, weights_only=True)
    assert content["cfg"].startswith("[net]")


def test_a_model_needs_no_cfg_beside_it(network, tmp_path):
    path = write(tmp_path / "x.pt", Checkpoint(network.cfg, network.state(), Header(seen=7)))
    loaded, header = load_model(None, str(path))
    assert header.seen == 7
    assert loaded.count_parameters() == network.count_parameters()


def test_tensors_that_do_not_fit_their_cfg(network, tmp_path):
    state = {i: t for i, t in network.state().items() if i}
    with pytest.raises(WeightsError, match=r"\[convolutional\] needs biases, .* holds none"):
        Checkpoint(network.cfg, state).network()
    other = Cfg(DETECTOR.replace("filters=8", "filters=4", 1).encode(), "x.cfg")
    with pytest.raises(Exception, match="have the shape") as raised:
        Checkpoint(other, network.state()).network()
    assert type(raised.value).__module__ == "yolo.errors"


def test_numbers_that_are_not_finite(network, tmp_path):
    network.state()[0]["weights"][0, 0, 0, 0] = torch.nan
    path = write(tmp_path / "x.pt", Checkpoint(network.cfg, network.state()))
    with pytest.raises(WeightsError, match=r"x\.pt: .*finite numbers in 0\.weights"):
        load_checkpoint(path)


class Evil:
    def __reduce__(self):
        return (print, ("owned",))


def test_pickled_objects_are_not_loaded(tmp_path, capsys):
    path = tmp_path / "x.pt"
    torch.save({"format": 1, "cfg": Evil()}, path)
    with pytest.raises(WeightsError, match="is not a checkpoint, or is damaged"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(WeightsError):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"[net]\n", bytes(range(256)) * 40], ids=["empty", "zip", "cfg", "rest"]
)
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.pt: "):
        load_checkpoint(path)


def test_a_cut_off_file(network, tmp_path):
    path = write(tmp_path / "x.pt", Checkpoint(network.cfg, network.state()))
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(WeightsError, match=r"x\.pt: "):
            load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [[], {}, {"format": 2}, {"format": 1}, {"model": torch.ones(2)}]
)
def test_other_peoples_files(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt: "):
        load_checkpoint(tmp_path / "x.pt")


def test_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match="can't read the checkpoint: no such file"):
        load_checkpoint(tmp_path / "x.pt")
