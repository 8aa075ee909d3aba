"""Quantised graphs without what readers don't need: in small models names are half of a file."""

from __future__ import annotations

from itertools import count
from typing import Any

from yolo.export.onnx_graph import drop_unused, needed, rename

DEQUANTIZE, QUANTIZE = "DequantizeLinear", "QuantizeLinear"


def shorten(model: Any) -> None:
    """Give tensors brief names and leave out zero points of biases, which are 0 without them.

    Nodes of sections keep their names.
    """
    graph = model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    int32 = needed("onnx").TensorProto.INT32
    for node in graph.node:
        if node.op_type == DEQUANTIZE and types.get(node.input[0]) == int32:
            del node.input[2:]
        if node.op_type in (DEQUANTIZE, QUANTIZE):
            node.name = ""
    drop_unused(graph)
    rename(graph, _brief(graph))


def _brief(graph: Any) -> dict[str, str]:
    """A brief name for every tensor of a graph but its inputs and outputs."""
    fixed = {"", *(value.name for value in (*graph.input, *graph.output))}
    made = [tensor.name for tensor in graph.initializer]
    made += [name for node in graph.node for name in node.output]
    numbers = count()
    return {name: f"t{next(numbers)}" for name in made if name not in fixed}
