"""The .weights codec: Darknet's order and headers, every byte back, nothing silently wrong."""

import errno
import struct

import numpy as np
import pytest
import torch
from cfgs import net
from networks import build, random_input
from paths import SHARED

from yolo.cfg import Cfg
from yolo.errors import DarknetError, WeightsError
from yolo.files import write_files
from yolo.layers import registered
from yolo.models.weights import Header, load_weights, save_weights, weights_size
from yolo.network import Network

MODELS = sorted(path.stem for path in SHARED.glob("data/models/*.weights"))
NET = net(4, 3, 2)
CONV = "[convolutional]\nfilters=2\nactivation=linear\n"
BN = "batch_normalize=1\n"
# A section that stores tensors, and their shapes in the order of the file.
STORED = {
    "convolutional": ("filters=4\ngroups=2\nsize=3\npad=1\n", [(4,), (4, 1, 3, 3)]),
    "convolutional, normalised": (
        "filters=5\nsize=3\npad=1\n" + BN,
        [(5,), (5,), (5,), (5,), (5, 2, 3, 3)],
    ),
    "connected": ("output=3\n", [(3,), (3, 24)]),
    "connected, normalised": ("output=3\n" + BN, [(3,), (3, 24), (3,), (3,), (3,)]),
    "batchnorm": ("", [(2,), (2,), (2,), (2,)]),
    "local": ("filters=3\nsize=2\n", [(3, 6), (6, 3, 8)]),
    "shortcut, per_feature": ("from=-2,-3\nweights_type=per_feature\n", [(3, 1)]),
    "shortcut, per_channel": ("from=-2,-3\nweights_type=per_channel\n", [(3, 2)]),
    "implicit": ("filters=6\natoms=2\n", [(6, 2)]),
    "l2norm": ("", [(2,)]),
}
# Where torch keeps them.
ATTRIBUTES = {
    "convolutional": ["conv.bias", "conv.weight"],
    "convolutional, normalised": [
        "bn.bias",
        "bn.weight",
        "bn.running_mean",
        "bn.running_var",
        "conv.weight",
    ],
    "connected": ["linear.bias", "linear.weight"],
    "connected, normalised": [
        "bn.bias",
        "linear.weight",
        "bn.weight",
        "bn.running_mean",
        "bn.running_var",
    ],
    "batchnorm": ["bn.bias", "bn.weight", "bn.running_mean", "bn.running_var"],
    "local": ["bias", "weight"],
    "shortcut, per_feature": ["weight"],
    "shortcut, per_channel": ["weight"],
    "implicit": ["weight"],
    "l2norm": ["factors"],
}
EVERY = (
    NET
    + CONV
    + CONV
    + "share_index=0\n"
    + CONV
    + BN
    + "[shortcut]\nfrom=0\nweights_type=per_channel\n[batchnorm]\n"
    + "[local]\nfilters=2\nsize=2\n[connected]\noutput=3\n[connected]\noutput=4\n"
    + BN
    + "[implicit]\nfilters=4\n[scale_channels]\nfrom=-2\n"
)
HEADERS = {
    "first": (struct.pack("<iiiI", 0, 1, 0, 64), Header(0, 1, 0, 64)),
    "wide": (struct.pack("<iiiQ", 0, 2, 5, 2**33), Header(0, 2, 5, 2**33)),
    "major": (struct.pack("<iiiQ", 1, 0, 0, 7), Header(1, 0, 0, 7)),
    "transposed": (struct.pack("<iiiI", 0, 1001, 0, 64), Header(0, 1001, 0, 64)),
    "transposed, major": (struct.pack("<iiiI", 1001, 2, 0, 64), Header(1001, 2, 0, 64)),
}


def section_of(case):
    """The section alone behind two convolutions, and the index that it gets."""
    text = NET + CONV + "[route]\nlayers=-1\n[route]\nlayers=-1\n"
    return Network(Cfg((text + f"[{case.split(',')[0]}]\n" + STORED[case][0]).encode(), "x.cfg"))


def write(path, numbers, header=HEADERS["wide"][0]):
    path.write_bytes(header + np.asarray(numbers, "<f4").tobytes())
    return path


def numbers_of(network):
    return np.random.default_rng(0).normal(size=network.count_floats()).astype("<f4")


def attribute(layer, name):
    for part in name.split("."):
        layer = getattr(layer, part)
    return layer


@pytest.mark.parametrize("case", STORED)
def test_the_order_of_the_file_is_darknets(case, tmp_path):
    network = section_of(case)
    first = [np.array([0.5, 0.25], "<f4"), np.arange(4, dtype="<f4")]
    arrays = [np.random.default_rng(i).random(s, "<f4") for i, s in enumerate(STORED[case][1])]
    path = write(tmp_path / "x.weights", np.concatenate([a.ravel() for a in first + arrays]))
    load_weights(network, path)
    for name, array in zip(ATTRIBUTES[case], arrays, strict=True):
        np.testing.assert_array_equal(attribute(network.layers[3], name).detach().numpy(), array)


def test_every_section_that_stores_tensors_has_its_order_tested():
    tested = {case.split(",")[0] for case in STORED}
    plain = {t: kind for t, kind in registered().items() if not kind.plain_type}
    storing = {t for t, kind in plain.items() if "slots" in vars(kind)}
    assert storing == tested


def test_sections_that_store_nothing_leave_nothing(tmp_path):
    network = build(NET + CONV + "[shortcut]\nfrom=-1\n" + CONV + "share_index=0\n")
    assert list(network.state()) == [0]
    assert network.count_floats() == 2 + 4
    save_weights(network, tmp_path / "x.weights")
    assert (tmp_path / "x.weights").stat().st_size == 20 + 4 * 6


@pytest.mark.parametrize("case", HEADERS)
def test_every_header_is_read_and_written_back(case, tmp_path):
    content, header = HEADERS[case]
    network = Network(Cfg(EVERY.encode(), "x.cfg"))
    path = write(tmp_path / "x.weights", numbers_of(network), content)
    assert load_weights(network, path) == header
    assert weights_size(network, header) == path.stat().st_size
    save_weights(network, tmp_path / "y.weights", header)
    assert (tmp_path / "y.weights").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("major_minor", [(0, 1000), (1000, 0)])
def test_a_thousand_is_neither_wide_nor_transposed(major_minor):
    header = Header(*major_minor)
    assert (header.wide, header.transposed, header.size) == (False, False, 16)


@pytest.mark.parametrize("header", ["transposed", "transposed, major"])
def test_a_transposed_connected_section_computes_the_same(header, tmp_path):
    plain = Network(Cfg((NET + "[connected]\noutput=3\nactivation=linear\n").encode()))
    transposed = Network(plain.cfg)
    bias, weights = np.zeros(3), np.random.default_rng(0).normal(size=(3, 24))
    load_weights(plain, write(tmp_path / "a", np.concatenate([bias, weights.ravel()])))
    turned = np.concatenate([bias, weights.T.ravel()])
    load_weights(transposed, write(tmp_path / "b", turned, HEADERS[header][0]))
    x = random_input(plain)
    expected = x.flatten(1).double() @ torch.from_numpy(weights).T
    for network in (plain, transposed):
        out = network(x)[0].flatten(1).double()
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_a_new_file_has_alexeys_header(tmp_path):
    save_weights(build(NET + CONV), tmp_path / "x.weights")
    assert (tmp_path / "x.weights").read_bytes()[:20] == struct.pack("<iiiQ", 0, 2, 5, 0)


@pytest.mark.parametrize("name", MODELS or ["none"])
def test_real_models_are_written_back_byte_for_byte(name, shared, tmp_path):
    models = shared / "data" / "models"
    network = Network(Cfg.load(models / f"{name}.cfg"))
    header = load_weights(network, models / f"{name}.weights")
    assert weights_size(network, header) == (models / f"{name}.weights").stat().st_size
    save_weights(network, tmp_path / "x.weights", header)
    assert (tmp_path / "x.weights").read_bytes() == (models / f"{name}.weights").read_bytes()


WRONG_SIZES = {
    "one byte short": (-1, "too short: x.cfg:13: [convolutional] the file ends in its weights: "),
    "one number short": (-4, "too short: x.cfg:13: [convolutional] the file ends in its weights: "),
    "in the first section": (
        -40,
        "too short: x.cfg:5: [convolutional] the file ends in its weight",
    ),
    "only the header": (-48, "too short: x.cfg:5: [convolutional] the file ends in its biases: 2"),
    "in the header": (-49, "too short: it ends in the header"),
    "empty": (-68, "too short: it ends in the header"),
    "one number long": (4, "too long: x.cfg:13: [convolutional] 4 bytes are left after this sec"),
    "one byte long": (1, "too long: x.cfg:13: [convolutional] 1 bytes are left after this sec"),
}


@pytest.mark.parametrize("case", WRONG_SIZES)
def test_a_wrong_size_is_an_error_that_names_the_section(case, tmp_path):
    change, message = WRONG_SIZES[case]
    network = Network(
        Cfg((NET + CONV + "[route]\nlayers=0\n\n\n\n" + CONV + "[dropout]\n").encode(), "x.cfg")
    )
    path = write(tmp_path / "x.weights", numbers_of(network))
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(WeightsError) as error:
        load_weights(network, path)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("index", "name"), [(0, "biases"), (5, "weights")])
def test_numbers_that_are_not_finite_are_refused(value, index, name, tmp_path):
    network = Network(Cfg((NET + CONV).encode(), "x.cfg"))
    numbers = numbers_of(network)
    numbers[index] = value
    path = write(tmp_path / "x.weights", numbers)
    with pytest.raises(WeightsError, match=rf"x\.cfg:5: \[convolutional\] not all of its {name}"):
        load_weights(network, path)


@pytest.mark.parametrize("name", ["x.conv.2", "x.weights"])
def test_a_backbone_fills_only_its_first_sections(name, tmp_path):
    network = build(NET + CONV + CONV + CONV)
    before = network.layers[2].conv.weight.clone()
    numbers = np.arange(12, dtype="<f4")
    path = write(tmp_path / name, numbers)
    load_weights(network, path, cutoff=2 if name == "x.weights" else None)
    assert network.layers[1].conv.weight.flatten().tolist() == [8, 9, 10, 11]
    assert torch.equal(network.layers[2].conv.weight, before)


def test_a_backbone_with_more_numbers_than_its_name_says_is_refused(tmp_path):
    network = build(NET + CONV + CONV)
    path = write(tmp_path / "x.conv.1", np.arange(12))
    with pytest.raises(WeightsError, match=r"too long: .* 24 bytes are left .*first 1"):
        load_weights(network, path)


def test_loading_makes_no_copy_and_never_writes_to_the_file(tmp_path):
    network = Network(Cfg((NET + CONV).encode()))
    path = write(tmp_path / "x.weights", np.arange(6))
    load_weights(network, path)
    conv = network.layers[0].conv
    # one mapping behind the header: the weights follow the biases in memory
    assert conv.weight.data_ptr() - conv.bias.data_ptr() == 2 * 4
    assert conv.bias.data_ptr() % 4096 == 20
    with torch.no_grad():
        conv.weight.add_(1)
    assert conv.weight.flatten().tolist() == [3, 4, 5, 6]
    assert path.read_bytes()[20:] == np.arange(6, dtype="<f4").tobytes()


def test_a_file_can_be_written_over_the_one_that_was_loaded(tmp_path):
    network = Network(Cfg((NET + CONV).encode()))
    path = write(tmp_path / "x.weights", np.arange(6))
    load_weights(network, path)
    save_weights(network, path)
    assert path.read_bytes()[20:] == np.arange(6, dtype="<f4").tobytes()


def test_shared_tensors_are_one_tensor(tmp_path):
    network = Network(Cfg((NET + CONV + BN + CONV + BN + "share_index=-1\n").encode()))
    load_weights(network, write(tmp_path / "x.weights", np.arange(12)))
    owner, user = network.layers
    assert user.conv.weight is owner.conv.weight
    assert user.bn.weight is owner.bn.weight
    assert user.bn.running_var is owner.bn.running_var


@pytest.mark.parametrize("error", [RuntimeError("stop"), OSError(errno.ENOSPC, "No space left")])
def test_a_failing_writer_leaves_the_old_files_and_nothing_else(error, tmp_path):
    def fail(file):
        file.write(b"new")
        raise error

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(DarknetError if isinstance(error, OSError) else RuntimeError):
        write_files([(tmp_path / "a", lambda file: file.write(b"new")), (tmp_path / "b", fail)])
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


def test_what_cannot_be_written_or_read_is_named(tmp_path):
    network = build(NET + CONV)
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path, tmp_path / "file" / "x.weights"):
        with pytest.raises(DarknetError, match="can't write: "):
            save_weights(network, path)
        with pytest.raises(WeightsError, match="can't read the weights: "):
            load_weights(network, path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
