"""ONNX graphs that compute in float16; the decoding of boxes, inputs and outputs stay float32."""

from __future__ import annotations

from typing import Any

from yolo.errors import DarknetError
from yolo.export.onnx_graph import needed, section_of
from yolo.network import Network

LARGEST = 65504.0  # in float16


def in_half(model: Any, network: Network) -> Any:
    """The graph of a network with float16 sections; raises DarknetError for too large weights."""
    onnx, tools = needed("onnx"), needed("onnxruntime.transformers.float16")
    _check(model, network, onnx)
    sections = {node.name: section_of(node.name) for node in model.graph.node}
    decoding = [
        name
        for name, section in sections.items()
        if section is None or network.layers[section].is_head
    ]
    half = tools.convert_float_to_float16(model, keep_io_types=True, node_block_list=decoding)
    cleaned = needed("onnxruntime.transformers.onnx_model").OnnxModel(half)
    # the converter casts to float16 and back between any two nodes that stay float32
    cleaned.remove_cascaded_cast_nodes()
    cleaned.remove_useless_cast_nodes()
    cleaned.topological_sort()
    onnx.checker.check_model(half, full_check=True)
    return half


def _check(model: Any, network: Network, onnx: Any) -> None:
    """Raises DarknetError for numbers that float16 doesn't hold."""
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        array = onnx.numpy_helper.to_array(tensor)
        if array.size and abs(array).max() > LARGEST:
            raise DarknetError(
                f"{network.cfg.path}: holds {abs(array).max():.3g}, float16 ends at {LARGEST:.0f}: "
                "export it without --half"
            )
