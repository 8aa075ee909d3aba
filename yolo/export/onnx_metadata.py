"""What an ONNX file of ours says of itself: how to prepare an image, and to read the outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from yolo.cfg import Cfg
from yolo.errors import DarknetError
from yolo.export.options import OnnxOptions
from yolo.models.weights import Header, weights_writer
from yolo.network import Network
from yolo.records import WRONG

PRODUCER, KEY, SCHEMA = "darknet-pruning", "darknet-pruning", 1


@dataclass(frozen=True)
class Metadata:
    """The metadata of an ONNX file.

    `cfg` is the text of the network without comments; `sha256` is that of the .weights file with
    the same tensors; the other fields are those of OnnxOptions.
    """

    cfg: str
    sha256: str
    boxes: str
    layout: str
    batch: int | None
    thresh: float
    names: tuple[str, ...]
    license: str
    precision: str

    @classmethod
    def of(cls, network: Network, header: Header, options: OnnxOptions) -> Metadata:
        """The metadata of a network without posteriors."""
        chosen = {field.name: getattr(options, field.name) for field in fields(options)}
        return cls(_bare(network.cfg), _sha256(network, header), **chosen)

    @classmethod
    def read(cls, path: str, properties: Mapping[str, str]) -> Metadata:
        """From the properties of a file; raises DarknetError for a file that isn't ours."""
        if KEY not in properties or "cfg" not in properties:
            raise DarknetError(f"{path}: was not written by export.py: its metadata lacks a cfg")
        try:
            content = json.loads(properties[KEY])
            schema = content.pop("schema")
            if schema == SCHEMA:
                content["names"] = tuple(map(str, content["names"]))
                own = {field.name: content[field.name] for field in fields(cls)[1:]}
                return cls(properties["cfg"], **own)
        except WRONG as error:
            raise DarknetError(f"{path}: its metadata is damaged; export it again") from error
        raise DarknetError(
            f"{path}: its metadata has schema {schema}, this version reads {SCHEMA}; "
            "export it again"
        )

    def properties(self, network: Network) -> dict[str, str]:
        """Properties by name; names, task, stride and imgsz are what Ultralytics' tools read."""
        own = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        image, net = network.image, network.cfg.net
        how = {
            "input": f"RGB, N x {image.channels} x {image.height} x {image.width}, from 0 to 1",
            "resize": "letterbox" if net.flag("letter_box") else "stretch",
            "anchors": [getattr(network.layers[i], "anchors", []) for i in network.heads],
            "version": package_version(),
        }
        gives_boxes = any(network.layers[i].gives_boxes for i in network.heads)
        return {
            KEY: json.dumps({"schema": SCHEMA, **own, **how}),
            "cfg": self.cfg,
            "names": str(dict(enumerate(self.names))),
            "task": "detect" if gives_boxes else "classify",
            "stride": str(_stride(network)),
            "imgsz": str([image.height, image.width]),
            "batch": str(self.batch or 1),
            **({"license": self.license} if self.license else {}),
        }


def properties_of(model: Any) -> dict[str, str]:
    """The metadata of a ModelProto, by name."""
    return {entry.key: entry.value for entry in model.metadata_props}


def _bare(cfg: Cfg) -> str:
    """The text of a cfg without comments and blank lines."""
    lines = cfg.strict().to_bytes().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if line and line[0] not in "#;") + "\n"


def _sha256(network: Network, header: Header) -> str:
    digest = hashlib.sha256()

    class Hashed:
        """A file that only counts what is written to it into the digest."""

        def write(self, content: bytes) -> None:
            digest.update(content)

    weights_writer(network, header)(Hashed())  # type: ignore[arg-type]
    return digest.hexdigest()


def _stride(network: Network) -> int:
    """The pixels of one cell of the coarsest map that a head gets."""
    coarsest = min(network.layers[i].out_shape.width for i in network.head_inputs)
    return max(1, network.image.width // coarsest)


def package_version() -> str:
    """The version of this project; "" in a checkout that isn't installed."""
    try:
        return version(PRODUCER)
    except PackageNotFoundError:
        return ""
