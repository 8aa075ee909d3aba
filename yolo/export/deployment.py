"""A network as files for an engine, and what the engine leaves to whoever runs it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo.export.portable import Portable, portable, without_norms
from yolo.files import Writer, content_writer
from yolo.heads.ssd import Ssd
from yolo.models.weights import Header, weights_writer
from yolo.network import Network


@dataclass(frozen=True)
class Part:
    """A cfg with its weights; where it begins behind a norm, that output of another part."""

    stem: str
    form: Portable
    norm: tuple[int, float] | None = None  # the section of the original, and eps


@dataclass(frozen=True)
class Deployment:
    """The parts of a network for an engine: one, and for OpenCV one more behind each [l2norm]."""

    network: Network
    parts: Sequence[Part]

    @classmethod
    def of(cls, network: Network, engine: str, stem: str) -> Deployment:
        """`engine` is darknet or opencv; raises CfgError where it can't be."""
        if engine == "darknet":
            return cls(network, [Part(stem, portable(network))])
        form, tails = without_norms(network)
        parts = [Part(stem, form)]
        for number, tail in enumerate(tails, 1):
            parts.append(Part(f"{stem}-norm{number}", tail.portable, (tail.source, tail.eps)))
        return cls(network, parts)

    @property
    def says_more(self) -> bool:
        """Whether something of the network isn't in the files of the parts."""
        return any(part.form.is_new for part in self.parts)

    def writers(self, folder: Path, header: Header) -> list[tuple[Path, Writer]]:
        """What writes all of it: a .cfg and .weights a part, and a .json."""
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
        """Where the outputs are, what comes between the parts, and how boxes are made of them."""
        found: dict[str, object] = {"input": "RGB, N x C x H x W, from 0 to 1"}
        found["norms"] = [
            {
                "file": f"{part.stem}.cfg",
                "input": "x / sqrt(sum of x^2 over the channels + eps)",
                "x": self._place(part.norm[0]),
                "eps": part.norm[1],
            }
            for part in self.parts
            if part.norm
        ]
        heads = [layer for layer in self.network.layers if isinstance(layer, Ssd)]
        found["outputs"] = [self._place(i) for i in self.network.head_inputs]
        found["ssd"] = [self._ssd(head) for head in heads]
        return _short_rows(json.dumps(found, indent=1)) + "\n"

    def _ssd(self, head: Ssd) -> dict[str, object]:
        count = len(head.maps)
        return {
            "loc": [self._place(i) for i in head.sources[:count]],
            "conf": [self._place(i) for i in head.sources[count:]],
            "classes": head.classes,
            "background": 0,
            "order": "row, column, prior, number",
            "decode": "centre = prior centre + shift * variance * prior size; "
            "size = prior size * exp(shift * variance); softmax over background and classes",
            "variance": list(head.variance),
            "conf_thresh": head.conf_thresh,
            "nms": head.nms,
            "top_k": head.top_k,
            "keep_top_k": head.keep_top_k,
            "priors": [[round(value, 7) for value in row] for row in head.priors.tolist()],
        }

    def _place(self, index: int) -> dict[str, object]:
        """Where the output of a section of the original is."""
        part = next(p for p in self.parts if index in p.form.places)
        return {"file": f"{part.stem}.cfg", "section": part.form.places[index]}


def _short_rows(text: str) -> str:
    """JSON whose innermost lists and objects stand in one line each."""
    return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda found: " ".join(found[0].split()), text)
