"""Files for ncnn: .param and .bin, converted from ONNX by the package pnnx."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from yolo.errors import DarknetError
from yolo.export.onnx import exported
from yolo.export.onnx_graph import INPUT, needed
from yolo.export.onnx_metadata import properties_of
from yolo.export.options import NMS, OnnxOptions
from yolo.files import Writer, content_writer
from yolo.models.weights import Header
from yolo.network import Network

LONGEST = 600  # seconds
# types that pnnx leaves where ncnn has none
_FOREIGN = re.compile(r"^((?:pnnx|aten|prim|torch|nn|F|onnx)[.:]\S+|Tensor\.\S+)", re.MULTILINE)


def writers(
    network: Network, header: Header, target: Path, options: OnnxOptions
) -> list[tuple[Path, Writer]]:
    """The .param, its .bin, and a -ncnn.json with what an ONNX file has as metadata.

    Inputs and outputs have the names that they have in ONNX. Raises DarknetError for what ncnn
    can't express, and where pnnx is missing.
    """
    if options.boxes == NMS or options.batch != 1:
        raise DarknetError(f"{target}: ncnn takes one image, and its boxes without NMS")
    model = exported(network, header, options)
    files = converted(model.SerializeToString(), network)
    beside = target.with_name(f"{target.stem}-ncnn.json")
    return [
        *((target.with_suffix(kind), content_writer(made)) for kind, made in files.items()),
        (beside, content_writer((json.dumps(properties_of(model), indent=1) + "\n").encode())),
    ]


def converted(content: bytes, network: Network) -> dict[str, bytes]:
    """The .param and .bin of an ONNX file, with its names; raises DarknetError."""
    image, path = network.image, network.cfg.path
    program = needed("pnnx", "pnnx ncnn").EXEC_PATH
    shape = f"inputshape=[1,{image.channels},{image.height},{image.width}]"
    with tempfile.TemporaryDirectory(prefix="ncnn-") as folder:
        (Path(folder) / "m.onnx").write_bytes(content)
        command = [program, "m.onnx", shape, "fp16=0"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=LONGEST)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DarknetError(f"{path}: pnnx can't convert it: {error}") from error
        param, weights = (Path(folder) / f"m.ncnn.{kind}" for kind in ("param", "bin"))
        if not param.exists() or not weights.exists():
            raise DarknetError(f"{path}: pnnx can't convert it: it ends with {done.returncode}")
        text = param.read_text()
        if foreign := _FOREIGN.search(text):
            raise DarknetError(f"{path}: ncnn has nothing for {foreign[1]}")
        return {".param": _named(text, content).encode(), ".bin": weights.read_bytes()}


def _named(param: str, content: bytes) -> str:
    """A .param with the names of the ONNX file's input and outputs."""
    outputs = needed("onnx").load_model_from_string(content).graph.output
    names = {"in0": INPUT, **{f"out{i}": output.name for i, output in enumerate(outputs)}}
    return "\n".join(
        " ".join(names.get(word, word) for word in line.split(" ")) for line in param.split("\n")
    )
