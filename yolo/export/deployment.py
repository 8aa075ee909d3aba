"""A network as files for an engine, and the steps that the user's program must do itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo.export.assembly import Portable
from yolo.export.split import Tail
from yolo.files import Writer, content_writer
from yolo.models.weights import Header, weights_writer
from yolo.network import Network


@dataclass(frozen=True)
class Part:
    """A cfg with its weights; a `tail`'s input is computed from the output of another part."""

    stem: str
    form: Portable
    tail: Tail | None = None


@dataclass(frozen=True)
class Deployment:
    """The parts of a network for an engine, in order."""

    network: Network
    parts: Sequence[Part]

    @property
    def says_more(self) -> bool:
        """True where the files of the parts lack something of the network."""
        return any(part.form.is_new for part in self.parts)

    def writers(self, folder: Path, header: Header) -> list[tuple[Path, Writer]]:
        """The files and their writers: a .cfg and .weights for each part, and a .json."""
        files: list[tuple[Path, Writer]] = []
        for part in self.parts:
            network = part.form.network
            cfg = network.cfg.strict().to_bytes()
            files.append((folder / f"{part.stem}.weights", weights_writer(network, header)))
            files.append((folder / f"{part.stem}.cfg", content_writer(cfg)))
        if self.says_more:
            path = folder / f"{self.parts[0].stem}.json"
            files.append((path, content_writer(self.to_json().encode())))
        return files

    def to_json(self) -> str:
        """JSON with the outputs' files and sections, steps between parts, and decoding of boxes."""
        content: dict[str, object] = {"input": "RGB, N x C x H x W, from 0 to 1"}
        content["norms"] = [self._input(part.stem, part.tail) for part in self.parts if part.tail]
        content["outputs"] = [self._output(i) for i in self.network.head_inputs]
        described: dict[str, list[object]] = {}
        for layer in self.network.layers:
            if layer.is_left_out:
                kind = described.setdefault(layer.section.type, [])
                kind.append(layer.described(self._output))
        content |= described
        return _short_rows(json.dumps(content, indent=1)) + "\n"

    def _input(self, stem: str, tail: Tail) -> dict[str, object]:
        """The step from the output of another part to the input of this one."""
        step = {"file": f"{stem}.cfg", "input": tail.outside.formula}
        return {**step, "x": self._output(tail.source), **tail.outside.numbers}

    def _output(self, index: int) -> dict[str, object]:
        """The file and section that give the output of a section of the original."""
        part = next(p for p in self.parts if index in p.form.places)
        return {"file": f"{part.stem}.cfg", "section": part.form.places[index]}


def _short_rows(text: str) -> str:
    """JSON with each of the innermost lists and objects in one line."""
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: " ".join(match[0].split()), text)
