"""A network as an ONNX graph in 8-bit integers: QDQ, weights by channel, activations by tensor."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pruning.measure.head_error import batches
from pruning.measure.progress import Progress
from pruning.proof.verify import relative
from pruning.quantization.brevity import shorten
from pruning.quantization.equalization import equalize, largest
from pruning.quantization.ranges import Floats, Range, histograms, ranges_of
from pruning.quantization.rounding import Scales, rounded
from yolo.errors import DarknetError
from yolo.export.onnx import outputs_of
from yolo.export.onnx_graph import INPUT, drop_unused, graph, needed, section_of
from yolo.export.onnx_metadata import Metadata
from yolo.export.options import DECODED, RAW, OnnxOptions
from yolo.heads.common.base import BoxHead
from yolo.inference.onnx import InOnnxRuntime
from yolo.layers import IMAGE, Layer
from yolo.layers.connected import Connected
from yolo.layers.convolutional import Convolutional
from yolo.layers.pooling import MaxPool
from yolo.models.weights import Header
from yolo.network import Network

# what onnxruntime computes in integers; all else stays in floats
OPERATORS = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "GlobalAveragePool", "LeakyRelu", "MaxPool",
    "Mul", "Relu", "Resize",
)  # fmt: skip
OF_WEIGHTS = "Clip", "Conv", "LeakyRelu", "Relu"
RANGE_IMAGES = 32  # more hardly move a range
CLIPPED = (1.0, 0.5, 0.0)  # least shares of the extremes that are tried as ends of ranges
LAYOUT, SCORES = "confs-boxes", "confs"
COMPARED = 16  # images on which sections are compared


class Quantizer:
    """A network with what calibration images say of it, to be written in 8 bits again and again.

    Images are (N, C, H, W) in [0, 1]. Raises DarknetError where the network has no convolution
    that could be quantised, or where onnx is missing.
    """

    def __init__(
        self,
        network: Network,
        header: Header,
        options: OnnxOptions,
        images: Tensor,
        progress: Progress = lambda step: None,
    ) -> None:
        self.network = network.plain()
        self.sections = _quantizable(self.network)
        if not self.sections:
            raise DarknetError(f"{network.cfg.path}: has no section that could be quantised")
        fused, parts = copy.deepcopy(network.fused()), batches(images)  # it shares tensors
        progress("equalising channels")
        equalize(fused, largest(fused, parts))
        self._model = self._graph(fused, header, options)
        # what scores become says more of detections than what enters the heads
        boxes = _scored(self.network)
        scores = replace(options, boxes=boxes, layout=LAYOUT, batch=1)
        self._scoring = self._graph(fused, header, scores)
        self._compared = images[:COMPARED].numpy()
        self._expected = self._scores(self._scoring)
        self._steps: Scales = {}
        self._weights: dict[int, Convolutional] = {}
        self._ranges = self._best_ranges(images[:RANGE_IMAGES].numpy(), progress)
        progress("rounding weights")
        self._round(fused, parts)

    def _best_ranges(self, pictures: Floats, progress: Progress) -> dict[str, Range]:
        """The ranges, clipped as far as is best for the scores."""
        progress(f"finding ranges on {len(pictures)} images")
        found, results = histograms(self._scoring, pictures), self.network.head_inputs
        tried = [ranges_of(self._scoring, found, least, results) for least in CLIPPED]
        costs = []
        for self._ranges in tried:
            costs.append(self.deviation())
        return tried[int(np.argmin(costs))]

    def _round(self, fused: Network, parts: Sequence[Tensor]) -> None:
        """Round weights by what they do to outputs, where that beats rounding to the nearest."""
        nearest = self.deviation()
        chosen = [fused.layers[i] for i in self.sections]
        weights = {c.section.index: c for c in chosen if isinstance(c, Convolutional)}
        ranges = _of_sections(self._scoring, self._ranges)
        self._steps = rounded(fused, ranges, list(weights), parts)
        self._weights = weights
        self.deviations = nearest, self.deviation()
        if self.deviations[1] > nearest:
            self._steps, self._weights = {}, {}

    def content(self, floats: Collection[int] = ()) -> bytes:
        """The file with all sections in 8 bits but `floats`, heads and those of the image."""
        model = self._with(self._model, floats)
        shorten(model)
        try:
            needed("onnx").checker.check_model(model, full_check=True)
        except Exception as error:  # its errors have no common class
            path = self.network.cfg.path
            raise DarknetError(f"{path}: onnx refuses the quantised graph: {error}") from error
        content: bytes = model.SerializeToString()
        return content

    def deviation(self, floats: Collection[int] = ()) -> float:
        """Relative L2 of the scores from those in floats, on a few of the images."""
        return relative(self._scores(self._with(self._scoring, floats)), self._expected)

    def _graph(self, fused: Network, header: Header, options: OnnxOptions) -> Any:
        metadata = Metadata.of(self.network, header, options)
        return graph(outputs_of(fused, options), options.batch, metadata)

    def _with(self, graph: Any, floats: Collection[int]) -> Any:
        """A graph of the network, with all sections in 8 bits but some."""
        model = needed("onnx").ModelProto()
        model.CopyFrom(graph)
        chosen = {i for i in self.sections if i not in floats}
        layers = {i: layer for i, layer in self._weights.items() if i in chosen}
        steps = _put(model, layers, self._steps)
        ranges = _renamed(self._ranges, self._scoring, model)
        kinds = {i: _operators(self.network.layers[i]) for i in chosen}
        nodes = [
            node
            for node in model.graph.node
            if (section := section_of(node.name)) in kinds and node.op_type in kinds[section]
        ]
        names = _computable(model, nodes, ranges)
        return _quantized(model, names, ranges, steps) if names else model

    def _scores(self, model: Any) -> dict[int, Tensor]:
        """The scores that a graph gives for the images that are compared, or all outputs."""
        session = InOnnxRuntime(model.SerializeToString(), self.network.cfg.path)
        names = [SCORES] if SCORES in session.names else session.names
        outputs = [session(image[None]) for image in self._compared]
        return {
            number: torch.from_numpy(np.stack([arrays[name] for arrays in outputs]))
            for number, name in enumerate(names)
        }


def _quantizable(network: Network) -> list[int]:
    """The sections that can be computed in integers: no heads, and not always the first one.

    A section that shares its tensors with others stays in floats.
    """
    owners = {layer.owner.section.index for layer in network.layers if layer.owner}
    return [
        i
        for i, layer in enumerate(network.layers)
        if layer.computes
        and not layer.is_head
        and not _is_slow(network, layer)
        and not layer.owner
        and i not in owners
    ]


def _is_slow(network: Network, layer: Layer) -> bool:
    """True for a section that sees the image, few channels of a large map, as integers are slow.

    Not so where a pool takes its output: making integers of the large map would be slower still.
    """
    takers = [network.layers[i] for i in network.consumers[layer.section.index]]
    return IMAGE in layer.sources and not all(isinstance(taker, MaxPool) for taker in takers)


def _of_sections(model: Any, ranges: Mapping[str, Range]) -> dict[int, Range]:
    """The range of what each section gives: of its last tensor."""
    found = {}
    for node in model.graph.node:
        section = section_of(node.name)
        if section is not None and node.output[0] in ranges:
            found[section] = ranges[node.output[0]]
    return found


def _operators(layer: Layer) -> Collection[str]:
    """Those of a section that integers compute; not the parts of a mish or a gelu."""
    return OF_WEIGHTS if isinstance(layer, Convolutional | Connected) else OPERATORS


def _scored(network: Network) -> str:
    """The outputs that tell how good a network still is: scores where all heads give them."""
    of_boxes = {isinstance(network.layers[i], BoxHead) for i in network.heads}
    return RAW if len(of_boxes) > 1 else DECODED


def _renamed(ranges: Mapping[str, Range], measured: Any, model: Any) -> dict[str, Range]:
    """Ranges of a graph's tensors from those of another graph with the same sections."""
    of_node = {node.name: node.output for node in measured.graph.node}
    found = {INPUT: ranges[INPUT]}
    for node in model.graph.node:
        pairs = zip(node.output, of_node.get(node.name, ()), strict=False)
        found |= {mine: ranges[other] for mine, other in pairs if other in ranges}
    return found


def _computable(model: Any, nodes: Iterable[Any], ranges: Mapping[str, Range]) -> list[str]:
    """The names of nodes that can be computed in integers: all that they take has a range."""
    known = {*ranges, "", *(tensor.name for tensor in model.graph.initializer)}
    return [
        node.name
        for node in nodes
        if known.issuperset((*node.input, *node.output))
        and any(name in ranges for name in node.input)
    ]


def _put(model: Any, layers: Mapping[int, Convolutional], steps: Scales) -> dict[str, Tensor]:
    """Give the convolutions of a graph new tensors; the steps of their weights by name."""
    from_array = needed("onnx").numpy_helper.from_array
    found = {}
    for node in model.graph.node:
        section = section_of(node.name)
        if section is None or section not in layers or node.op_type != "Conv":
            continue
        conv = layers[section].conv
        assert conv.bias is not None
        names = f"{node.name}/weights", f"{node.name}/biases"
        for name, tensor in zip(names, (conv.weight, conv.bias), strict=True):
            array = np.ascontiguousarray(tensor.detach().numpy())
            model.graph.initializer.append(from_array(array, name))
        del node.input[1:]
        node.input.extend(names)
        found[names[0]] = steps[section]
    drop_unused(model.graph)
    return found


def _quantized(
    model: Any, names: list[str], ranges: Mapping[str, Range], steps: Mapping[str, Tensor]
) -> Any:
    """A graph with these nodes between QuantizeLinear and DequantizeLinear, by onnxruntime."""
    quantization = needed("onnxruntime.quantization")
    calibrate = needed("onnxruntime.quantization.calibrate")
    overrides = {
        name: [{"axis": 0, "scale": step, "zero_point": np.int8(0)} for step in tensor.numpy()]
        for name, tensor in steps.items()
    }
    data = {name: (np.float32(r.low), np.float32(r.high)) for name, r in ranges.items()}
    quantizer = needed("onnxruntime.quantization.qdq_quantizer").QDQQuantizer(
        model,
        True,  # by channel
        False,  # of 8 bits, not 7
        quantization.QuantType.QInt8,  # weights
        quantization.QuantType.QUInt8,  # activations
        calibrate.TensorsData(quantization.CalibrationMethod.MinMax, data),
        names,
        [],
        list(OPERATORS),
        {"WeightSymmetric": True, "TensorQuantOverrides": overrides},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model
