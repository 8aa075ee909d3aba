"""A network as files for an engine, and what the engine leaves to whoever runs it."""

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
    """A cfg with its weights; the input of a `tail` is computed from the output of another part."""

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
        """True where something of the network isn't in the files of the parts."""
        return any(part.form.is_new for part in self.parts)

    def writers(self, folder: Path, header: Header) -> list[tuple[Path, Writer]]:
        """The files and what writes them: a .cfg and .weights a part, and a .json."""
        found: list[tuple[Path, Writer]] = []
        for part in self.parts:
            network = part.form.network
            cfg = network.cfg.strict().to_bytes()
            found.append((folder / f"{part.stem}.weights", weights_writer(network, header)))
            found.append((folder / f"{part.stem}.cfg", content_writer(cfg)))
        if self.says_more:
            path = folder / f"{self.parts[0].stem}.json"
            found.append((path, content_writer(self.to_json().encode())))
        return found

    def to_json(self) -> str:
        """The places of the outputs, the steps between the parts, and how boxes are made of all."""
        found: dict[str, object] = {"input": "RGB, N x C x H x W, from 0 to 1"}
        found["norms"] = [self._input(part.stem, part.tail) for part in self.parts if part.tail]
        found["outputs"] = [self._place(i) for i in self.network.head_inputs]
        described: dict[str, list[object]] = {}
        for layer in self.network.layers:
            if layer.is_left_out:
                kind = described.setdefault(layer.section.type, [])
                kind.append(layer.described(self._place))
        found |= described
        return _short_rows(json.dumps(found, indent=1)) + "\n"

    def _input(self, stem: str, tail: Tail) -> dict[str, object]:
        """The step from the output of another part to the input of this one."""
        said = {"file": f"{stem}.cfg", "input": tail.outside.formula}
        return {**said, "x": self._place(tail.source), **tail.outside.numbers}

    def _place(self, index: int) -> dict[str, object]:
        """The place of the output of a section of the original."""
        part = next(p for p in self.parts if index in p.form.places)
        return {"file": f"{part.stem}.cfg", "section": part.form.places[index]}


def _short_rows(text: str) -> str:
    """JSON whose innermost lists and objects stand in one line each."""
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda found: " ".join(found[0].split()), text)
