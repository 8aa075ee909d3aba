"""The .weights codec: memory-mapped reading, exact sizes, atomic writing."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from yolo.errors import WeightsError
from yolo.files import Writer, write_files
from yolo.network import Network, State

FLOAT = np.dtype("<f4")
# Darknet's names for backbone files end in the number of layers that they hold: yolov4.conv.137
BACKBONE = re.compile(r"\.conv\.(\d+)$")


@dataclass(frozen=True)
class Header:
    """The start of a .weights file; the default is AlexeyAB's."""

    major: int = 0
    minor: int = 2
    revision: int = 5
    seen: int = 0

    @property
    def wide(self) -> bool:
        """True where `seen` has 64 bits (parser.c: load_weights_upto)."""
        return self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000

    @property
    def transposed(self) -> bool:
        """True where connected sections store their weights as (in, out)."""
        return self.major > 1000 or self.minor > 1000

    @property
    def size(self) -> int:
        """Size in bytes."""
        return 20 if self.wide else 16

    def to_bytes(self) -> bytes:
        form = "<iiiQ" if self.wide else "<iiiI"
        return struct.pack(form, self.major, self.minor, self.revision, self.seen)

    @classmethod
    def from_bytes(cls, content: bytes) -> Header:
        """The header at the start of a file; raises struct.error for too few bytes."""
        header = cls(*struct.unpack_from("<iii", content))
        (seen,) = struct.unpack_from("<Q" if header.wide else "<I", content, 12)
        return cls(header.major, header.minor, header.revision, seen)


def load_weights(
    network: Network, path: str | os.PathLike[str], cutoff: int | None = None
) -> Header:
    """Give a network the tensors of a file, mapped into memory, not copied.

    With `cutoff` only that many sections are read, for a file that holds a backbone; the name of
    such a file in Darknet (darknet53.conv.74) sets it. The other sections keep their tensors.
    A Bayesian network takes its means from the file, which holds plain sections.
    Raises WeightsError, naming the section, for a file that is too short, too long or not finite.
    """
    plain = network.plain()
    if plain is not network:
        header = load_weights(plain, path, cutoff)
        network.store(_without_meta(plain.state()))
        return header
    header, numbers, trailing = _read(path)
    if cutoff is None and (match := BACKBONE.search(Path(path).name)):
        cutoff = int(match[1])
    state: dict[int, dict[str, Tensor]] = {}
    start, last = 0, network.cfg.layers[-1]
    for index, name, tensor, transposed in _stored(network, header):
        if cutoff is not None and index >= cutoff:
            break
        last = network.cfg.layers[index]
        part = numbers[start : start + tensor.numel()]
        if len(part) < tensor.numel():
            wanted = f"{tensor.numel()} numbers expected, {len(part)} left"
            where = last.error(f"the file ends in its {name}: {wanted}")
            raise WeightsError(f"{path}: too short: {where}")
        if not np.isfinite(part).all():
            raise WeightsError(f"{path}: {last.error(f'not all of its {name} are finite')}")
        start += len(part)
        shape = tensor.T.shape if transposed else tensor.shape
        mapped = torch.from_numpy(part).reshape(shape)
        state.setdefault(index, {})[name] = mapped.T if transposed else mapped
    left = FLOAT.itemsize * (len(numbers) - start) + trailing
    if left:
        until = "" if cutoff is None else f" (the last of the first {cutoff})"
        where = last.error(f"{left} bytes are left after this section{until}")
        raise WeightsError(f"{path}: too long: {where}")
    network.store(state)
    return header


def weights_writer(network: Network, header: Header) -> Writer:
    """A writer of a network's .weights file.

    Raises WeightsError for a Bayesian network: the file can't hold posteriors.
    """
    for layer in network.layers:
        if layer.plain_type:
            where = layer.section.error("has a posterior, .weights files have plain sections only")
            raise WeightsError(
                f"{where}: cut it with tools/prune.py --strategy bayesian, or keep it as .pt"
            )

    def write(file: BinaryIO) -> None:
        file.write(header.to_bytes())
        for index, name, tensor, transposed in _stored(network, header):
            if tensor.is_meta:
                raise WeightsError(str(network.cfg.layers[index].error(f"has no {name} to write")))
            array = (tensor.T if transposed else tensor).cpu().float().contiguous().numpy()
            file.write(array.astype(FLOAT, copy=False).data.cast("B"))

    return write


def save_weights(
    network: Network, path: str | os.PathLike[str], header: Header | None = None
) -> None:
    """Write a .weights file atomically; raises DarknetError."""
    write_files([(Path(path), weights_writer(network, header or Header()))])


def weights_size(network: Network, header: Header | None = None) -> int:
    """Size of the .weights file in bytes; of a Bayesian network, with its means."""
    return (header or Header()).size + FLOAT.itemsize * network.plain().count_floats()


def _stored(network: Network, header: Header) -> Iterator[tuple[int, str, Tensor, bool]]:
    """Yield section, name, tensor, and True where it is transposed, in the file's order."""
    for index, tensors in network.state().items():
        connected = network.layers[index].section.type == "connected"
        for name, tensor in tensors.items():
            yield index, name, tensor, header.transposed and connected and name == "weights"


def _without_meta(state: State) -> State:
    """The sections that have tensors."""
    return {
        i: tensors
        for i, tensors in state.items()
        if not any(tensor.is_meta for tensor in tensors.values())
    }


def _read(path: str | os.PathLike[str]) -> tuple[Header, np.ndarray, int]:
    """Header, numbers, and the count of bytes after the last complete number."""
    try:
        size = os.stat(path).st_size
        with open(path, "rb") as file:
            header = Header.from_bytes(file.read(20))
    except struct.error as error:
        raise WeightsError(f"{path}: too short: it ends in the header") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WeightsError(f"{path}: can't read the weights: {reason}") from error
    count, trailing = divmod(size - header.size, FLOAT.itemsize)
    if count <= 0:
        return header, np.zeros(0, FLOAT), trailing
    # private pages: training writes to memory, never to the file
    numbers = np.memmap(path, FLOAT, mode="c", offset=header.size, shape=(count,))
    return header, numbers, trailing
