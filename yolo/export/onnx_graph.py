"""A network as an ONNX graph, traced by torch and simplified by onnxruntime."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from yolo.errors import DarknetError
from yolo.export.onnx_metadata import PRODUCER, Metadata, package_version
from yolo.export.onnx_outputs import GraphOutputs

OPSET = 13  # the first with QDQ by channel; all that is used here is in it
INPUT = "images"
_SECTION = re.compile(r"/network/sections\.(\d+)/(?:\w+/)*(\w+)$")


def graph(outputs: GraphOutputs, batch: int | None, metadata: Metadata | None = None) -> Any:
    """The ModelProto of a network without posteriors, its BN folded; checked by onnx.checker.

    Without `metadata`, whose hash reads all weights, it says nothing of itself. Raises DarknetError
    for a section that can't be expressed, or where onnx is missing.
    """
    onnx = needed("onnx")
    with tempfile.TemporaryDirectory(prefix="onnx-") as folder:
        model = _simplified(_traced(outputs, batch, Path(folder)), Path(folder))
    _merge_padding(model)
    del model.metadata_props[:]
    for key, value in (metadata.properties(outputs.network) if metadata else {}).items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = PRODUCER, package_version()
    _name(model, outputs)
    # onnxruntime adds domains that nothing uses
    standard = [entry for entry in model.opset_import if not entry.domain]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # its errors have no common class
        raise DarknetError(
            f"{outputs.network.cfg.path}: onnx refuses the graph: {error}"
        ) from error
    return model


def needed(name: str, packages: str = "'darknet-pruning[onnx]', or onnx onnxruntime") -> Any:
    """An optional package; raises DarknetError that names the command which installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise DarknetError(f"{name} is not installed: pip install {packages}") from error


def section_of(node: str) -> int | None:
    """The section of a node or tensor of our graphs; None for the decoding of boxes."""
    number, _, _ = node.partition("_")
    return int(number) if number.isdecimal() else None


def _traced(outputs: GraphOutputs, batch: int | None, folder: Path) -> Path:
    """The file with the graph as torch traces it."""
    image = outputs.network.image
    x = torch.zeros(batch or 1, image.channels, image.height, image.width)
    path = folder / "traced.onnx"
    axes = {} if batch else {name: {0: "batch"} for name in (INPUT, *outputs.names)}
    axes |= {name: {0: "count"} for name in outputs.counted}
    with warnings.catch_warnings(), torch.no_grad():
        # sizes become constants, as meant; and the exporter that knows opset 13 is the older one
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                outputs.eval(),
                (x,),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(outputs.names),
                dynamic_axes=axes,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise _inexpressible(outputs, error) from error
    return path


def _inexpressible(outputs: GraphOutputs, error: Exception) -> DarknetError:
    """Names the section at which the trace ended."""
    reason = " ".join(str(error).split())[:200]
    match = re.search(r"sections\.(\d+)", str(error))
    if not match:
        return DarknetError(f"{outputs.network.cfg.path}: ONNX can't express it: {reason}")
    section = outputs.network.layers[int(match[1])].section
    return section.error(f"ONNX can't express it: {reason}")


def _simplified(traced: Path, folder: Path) -> Any:
    """The graph with its constants folded, in standard operators."""
    onnx, runtime = needed("onnx"), needed("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    path = str(folder / "simplified.onnx")
    options.optimized_model_filepath = path
    runtime.InferenceSession(str(traced), options, providers=["CPUExecutionProvider"])
    return onnx.load(path)


def _merge_padding(model: Any) -> None:
    """Let maxpools pad by themselves: it is faster.

    Padding that they can't do is with the lowest number, as ncnn knows no -inf; pnnx misreads
    maxpools with more padding before the map than after it.
    """
    onnx, graph = needed("onnx"), model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for pool in [node for node in graph.node if node.op_type == "MaxPool"]:
        pad = pads.get(pool.input[0])
        if pad is None or uses[pool.input[0]] > 1:
            continue
        margins, value = (onnx.numpy_helper.to_array(constants[name]) for name in pad.input[1:3])
        own = {attribute.name: attribute.ints for attribute in pool.attribute}
        before, after = margins[2:4], margins[6:8]
        if value != -np.inf or any(own["pads"]) or min(margins) < 0:
            continue
        if (before <= after).all() and max(after) < min(own["kernel_shape"]):
            own["pads"][:] = [*before, *after]
            pool.input[0] = pad.input[0]
            graph.node.remove(pad)
        else:
            lowest = np.array(np.finfo(np.float32).min)
            constants[pad.input[2]].CopyFrom(onnx.numpy_helper.from_array(lowest, pad.input[2]))
    drop_unused(graph)


def _name(model: Any, outputs: GraphOutputs) -> None:
    """Names of nodes and tensors like 12_convolutional/Conv, or decode/Mul behind the sections.

    Engines name what they fuse after its tensors.
    """
    sections = outputs.network.cfg.layers
    fixed = {INPUT, "", *outputs.names, *(tensor.name for tensor in model.graph.initializer)}
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for node in model.graph.node:
        match = _SECTION.match(node.name)
        kind = f"{match[1]}_{sections[int(match[1])].name}" if match else "decode"
        counts[name := f"{kind}/{node.op_type}"] += 1
        node.name = name if counts[name] == 1 else f"{name}_{counts[name]}"
        for number, output in enumerate(node.output):
            if output not in fixed:
                names[output] = f"{node.name}:{number}"
    rename(model.graph, names)


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Give the tensors of a graph other names, in the bodies of its loops, too."""
    del graph.value_info[:]  # of the old names
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(tensor, tensor) for tensor in tensors]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                rename(attribute.g, names)


def drop_unused(graph: Any) -> None:
    """Remove the constants that no node takes."""
    used = {output.name for output in graph.output} | set(_taken(graph))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _taken(graph: Any) -> list[str]:
    """The tensors that nodes take, also those of the bodies of loops."""
    found = [name for node in graph.node for name in node.input]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += _taken(attribute.g) + [output.name for output in attribute.g.output]
    return found
