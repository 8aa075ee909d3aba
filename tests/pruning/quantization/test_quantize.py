"""Networks in 8-bit integers: exact equalisation, ranges, rounding, files, accuracy control."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from cfgs import HEAD, conv, net, plain, route
from command_line import CommandLine
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import build
from paths import ROOT
from random_cfg import BLOCKS, head
from random_cfg import sample as sample_of
from random_cfg import write as write_cfg

from pruning.calibration.reconstruct import Moments
from pruning.proof.verify import relative
from pruning.quantization.control import controlled
from pruning.quantization.equalization import equalize, largest, pairs
from pruning.quantization.quantize import Quantizer
from pruning.quantization.ranges import BINS, LEVELS, Histogram, best_range
from pruning.quantization.rounding import TOP, on_levels, rounded_weights
from yolo.datasets.formats.layout import Destination, write
from yolo.datasets.formats.sample import sample
from yolo.errors import DarknetError, ProofError
from yolo.export.options import INT8, NMS, RAW, OnnxOptions
from yolo.inference.onnx import InOnnxRuntime, runner_of_content
from yolo.layers import Shape
from yolo.models.weights import Header
from yolo.network import Network

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

OPTIONS = OnnxOptions(precision=INT8)
CHAIN = (
    net(16, 16)
    + conv(8, 3, batch_normalize=1, activation="leaky")
    + conv(8, 3, batch_normalize=1, activation="relu", groups=8)
    + conv(12, batch_normalize=1, activation="linear")
    + conv(12, 3, groups=4, activation="leaky")
    + conv(8, 3, batch_normalize=1, stride=2)
    + HEAD
)


def images(network: Network, count: int = 8) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    image = network.image
    return torch.rand(count, image.channels, image.height, image.width, generator=random)


@settings(max_examples=20, deadline=None)
@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from(["linear", "relu", "leaky", "mish", "logistic"]),
            st.sampled_from([1, 2, 4, 8]),
        ),
        min_size=2,
        max_size=5,
    ),
    seed=st.integers(0, 99),
)
def test_equalisation_is_exact(kinds: list[tuple[str, int]], seed: int) -> None:
    text = net(8, 8) + conv(8) + "".join(conv(8, 3, activation=a, groups=g) for a, g in kinds)
    network = build(text + plain(12) + "[softmax]\n", seed)
    fused, x = network.fused(), images(network)
    last = len(network.layers) - 2
    with torch.no_grad():
        expected = fused(x, [last])[last].clone()
        equalize(fused, largest(fused, [x]))
        actual = fused(x, [last])[last]
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_channels_become_alike() -> None:
    network = build(CHAIN)
    fused, x = network.fused(), images(network)
    equalize(fused, largest(fused, [x]))
    peaks = largest(fused, [x])[0]  # a depthwise convolution takes them
    assert float(peaks.max() / peaks.min()) < 1.01


def test_outputs_with_other_consumers_are_no_pairs() -> None:
    text = net(8, 8) + conv(8) + conv(8) + route(0) + conv(8) + plain(12) + "[softmax]\n"
    found = [(a.section.index, b.section.index) for a, b in pairs(build(text))]
    assert found == [(3, 4)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), outlier=st.floats(1.0, 100.0))
def test_no_other_range_is_better(seed: int, outlier: float) -> None:
    random = np.random.default_rng(seed)
    numbers = np.append(random.normal(size=4000), [outlier, -outlier])
    low, high = float(numbers.min()), float(numbers.max())
    found = best_range(Histogram(low, high, np.histogram(numbers, BINS, (low, high))[0]))
    assert low <= found.low <= 0 <= found.high <= high
    x = torch.from_numpy(numbers)
    whole = Histogram(low, high, np.zeros(BINS, np.int64)).whole
    error, of_whole = (float((on_levels(x, r) - x).square().sum()) for r in (found, whole))
    assert error <= 1.02 * of_whole  # the histogram is a little coarse
    assert len(on_levels(x, found).unique()) <= LEVELS + 1


def test_a_leaky_relu_clips_below_zero_first() -> None:
    numbers = np.random.default_rng(0).normal(size=20000)
    low, high = float(numbers.min()), float(numbers.max())
    histogram = Histogram(low, high, np.histogram(numbers, BINS, (low, high))[0])
    assert best_range(histogram, 0.1).low > best_range(histogram).low + 0.5


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), groups=st.integers(1, 3), inputs=st.integers(2, 12))
def test_rounding_beats_the_nearest_on_what_is_seen(seed: int, groups: int, inputs: int) -> None:
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(groups, inputs, 4, generator=random).double()
    mixing = torch.randn(groups, inputs, inputs, generator=random)
    x = torch.randn(groups, 512, inputs, generator=random) @ mixing
    moments = Moments.of(x, (x.double() @ weights).float())
    grid, steps = rounded_weights(weights, moments)
    levels = grid / steps[:, None]
    assert torch.allclose(levels, levels.round(), atol=1e-6)
    assert levels.abs().max() <= TOP + 1e-6
    top = weights.abs().amax(1) / TOP
    nearest = (weights / top[:, None]).round() * top[:, None]
    covariance = moments.centred()[0]

    def error(rounded: torch.Tensor) -> float:
        off = weights - rounded
        return float((off * (covariance @ off)).sum())

    assert error(grid) <= 1.5 * error(nearest)  # greedy: no bound, but never far off


def test_rounding_helps_on_average() -> None:
    ratios = []
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        weights = torch.randn(1, 16, 8, generator=random).double()
        x = torch.randn(1, 512, 16, generator=random) @ torch.randn(1, 16, 16, generator=random)
        moments = Moments.of(x, (x.double() @ weights).float())
        grid, _ = rounded_weights(weights, moments)
        top = weights.abs().amax(1, keepdim=True) / TOP
        covariance = moments.centred()[0]
        off = [weights - g for g in (grid, (weights / top).round() * top)]
        ratios.append(float((off[0] * (covariance @ off[0])).sum()))
        ratios[-1] /= float((off[1] * (covariance @ off[1])).sum())
    assert float(np.mean(ratios)) < 0.7


@pytest.fixture(scope="module")
def quantizer() -> Quantizer:
    network = build(CHAIN)
    return Quantizer(network, Header(), OPTIONS, images(network))


def test_the_file_computes_nearly_the_same(quantizer: Quantizer) -> None:
    content = quantizer.content()
    model = onnx.load_model_from_string(content)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    dequantized = {n.output[0] for n in model.graph.node if n.op_type == "DequantizeLinear"}
    in_integers = [node.input[1] in dequantized for node in convs]
    assert in_integers == [False, True, True, True, True, True]
    assert 0 < quantizer.deviation() < 0.1
    x = images(quantizer.network, 3)
    found = runner_of_content(content, "x", InOnnxRuntime).candidates(x, 0.0)
    assert all(len(image.boxes) for image in found)


def test_sections_in_floats_are_as_they_were(quantizer: Quantizer) -> None:
    assert quantizer.deviation(quantizer.sections) == 0
    half = quantizer.sections[::2]
    assert 0 < quantizer.deviation(half) < 2 * quantizer.deviation()
    assert b"QuantizeLinear" not in quantizer.content(quantizer.sections)


def test_it_is_repeatable(quantizer: Quantizer) -> None:
    network = build(CHAIN)
    again = Quantizer(network, Header(), OPTIONS, images(network))
    assert again.content() == quantizer.content()


def test_nms_in_the_graph() -> None:
    network = build(CHAIN)
    options = OnnxOptions(NMS, thresh=0.2, precision=INT8)
    content = Quantizer(network, Header(), options, images(network)).content()
    runner = runner_of_content(content, "x", InOnnxRuntime)
    assert len(runner.detect(images(network, 2), 0.2, None)) == 2


@pytest.mark.parametrize("block", sorted(set(BLOCKS), key=lambda block: block.__name__))
def test_every_section(block) -> None:
    """What integers can't compute stays in floats; batches may vary, raw names be outputs."""
    drawn = sample_of(write_cfg(Shape(3, 8, 8), [(BLOCKS[0], 0), (block, 0), (head, 3)]), 0)
    state = {i: {n: t.float() for n, t in ts.items()} for i, ts in drawn.state.items()}
    network = Network.with_state(drawn.network.cfg, state)
    options = OnnxOptions(RAW, batch=None, precision=INT8)
    found = Quantizer(network, Header(), options, images(network, 128))
    x = images(network, 3)
    arrays = runner_of_content(found.content(), "x", InOnnxRuntime).arrays(x)
    with torch.no_grad():
        expected = network(x, network.head_inputs)
    assert relative(dict(enumerate(arrays.values())), dict(enumerate(expected.values()))) < 0.15


def test_names_take_little(quantizer: Quantizer) -> None:
    model = onnx.load_model_from_string(quantizer.content())
    tensors = [name for node in model.graph.node for name in (*node.input, *node.output)]
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    assert all(len(name) <= 4 for name in tensors if name not in ends)
    assert {"1_convolutional/Conv", "4_convolutional/Conv"} < {n.name for n in model.graph.node}


def test_the_network_isnt_changed() -> None:
    network = build(CHAIN)
    before = copy.deepcopy(network.state())
    Quantizer(network, Header(), OPTIONS, images(network))
    for i, tensors in network.state().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, before[i][name])


def test_a_network_without_anything_to_quantise() -> None:
    network = build(net(8, 8) + plain(12, activation="linear") + "[softmax]\n")
    with pytest.raises(DarknetError, match="no section that could be quantised"):
        Quantizer(network, Header(), OPTIONS, images(network))


def test_control_puts_back_the_costliest(quantizer: Quantizer) -> None:
    costs = {}
    for section in quantizer.sections:
        costs[section] = quantizer.deviation([i for i in quantizer.sections if i != section])
    costliest = sorted(costs, key=lambda section: -costs[section])

    def score(content: bytes) -> float:
        """Falls with every convolution in integers."""
        weights = onnx.load_model_from_string(content).graph.initializer
        return 1 - 0.1 * sum(
            t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4 for t in weights
        )

    assert controlled(quantizer, score, 0.5).floats == ()
    for drop in (0.45, 0.25, 0.05):
        found = controlled(quantizer, score, drop)
        assert found.expected - found.score <= drop
        assert set(found.floats) == set(costliest[: len(found.floats)])
        fewer = quantizer.content(costliest[: len(found.floats) - 1])
        assert found.expected - score(fewer) > drop


def test_control_gives_up(quantizer: Quantizer) -> None:
    scores = iter([1.0] + [0.0] * 99)
    with pytest.raises(ProofError, match="loses more than"):
        controlled(quantizer, lambda content: next(scores), 0.1)


def test_the_command(command: CommandLine, tmp_path: Path) -> None:
    target = tmp_path / "digits.onnx"
    write(sample({"train": 8, "valid": 24}), Destination(tmp_path / "digits", tmp_path))
    model = ROOT / "weights" / "digits.weights", target, "--cfg", ROOT / "cfg" / "digits.cfg"
    arguments = *model, "--int8", "--calibrate", tmp_path / "digits" / "images"
    ended = command.run("export", *arguments)
    assert ended.code == 0, ended.err
    assert "differs from the model's scores by" in ended.out
    properties = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
    assert '"precision": "int8"' in properties["darknet-pruning"]
    data = tmp_path / "digits.data"
    ended = command.run("export", *arguments, "--data", data, "--map-drop", 0.01)
    assert ended.code == 0, ended.err
    found = re.search(r"accuracy ([\d.]+), in floats ([\d.]+); back in floats:", ended.out)
    assert found
    assert float(found[1]) >= float(found[2]) - 0.01 > 0.5
    ended = command.run("test", "--weights", target, "--data", data, "--json", tmp_path / "m.json")
    assert ended.code == 0, ended.err
    evaluated = json.loads((tmp_path / "m.json").read_text())["map"]
    assert evaluated == pytest.approx(float(found[1]), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--int8"], "--calibrate FOLDER"),
        (["--int8", "--calibrate", "empty"], "no pictures or videos"),
        (["--int8", "--calibrate", "torn"], "torn"),
        (["--int8", "--calibrate", "missing"], "missing"),
        (["--map-drop", "0.1"], "only --int8 has that"),
        (["--int8", "--calibrate", "empty", "--map-drop", "0.1"], "--data FILE"),
        (["--int8", "--calibrate", "empty", "--data", "x", "--map-drop", "2"], "below 1"),
    ],
)
def test_wrong_input(command: CommandLine, tmp_path: Path, monkeypatch, options, message) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("torn").mkdir()
    Path("torn/p.png").write_bytes(b"no picture")
    model = ROOT / "weights" / "digits.weights", "x.onnx", "--cfg", ROOT / "cfg" / "digits.cfg"
    ended = command.run("export", *model, *options)
    assert ended.code == 2, ended.err
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not Path("x.onnx").exists()
