"""A network's sections as a table: what they cost, and whether they can be pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from terminaltables import AsciiTable

from pruning.graph.channels import ChannelGraph
from pruning.graph.rules import has_filters
from yolo.cfg import Cfg
from yolo.layers import Layer
from yolo.models.checkpoint import is_checkpoint
from yolo.models.load import load_model
from yolo.models.weights import Header, load_weights, weights_size
from yolo.network import Network

LISTED = 3  # inputs of a section that a table has room for


@dataclass(frozen=True)
class SectionInfo:
    """One section; `prunable` is None where it has no filters, else `why` not is said."""

    index: int
    section: str
    input: str
    output: str
    parameters: int
    macs: int
    prunable: bool | None
    why: str


@dataclass(frozen=True)
class Info:
    """A whole network."""

    cfg: str
    sections: Sequence[SectionInfo]
    parameters: int
    macs: int
    bytes: int
    prunable_channels: int

    def to_json(self) -> dict[str, object]:
        return {"kind": "description of a network", "schema": 2, **asdict(self)}

    def table(self) -> str:
        """One row a section, and the totals."""
        rows = [["", "section", "input", "output", "parameters", "MACs", "prunable"]]
        for s in self.sections:
            prunable = "" if s.prunable is None else s.why or "yes"
            row = [str(s.index), s.section, s.input, s.output]
            rows.append([*row, _number(s.parameters), _number(s.macs), prunable])
        total = f"{self.prunable_channels:,} channels"
        rows.append(["", "total", "", "", _number(self.parameters), _number(self.macs), total])
        table = AsciiTable(rows, f" {self.cfg} ")
        table.inner_footing_row_border = True
        table.justify_columns.update({0: "right", 4: "right", 5: "right"})
        return f"{table.table}\n{self.bytes:,} bytes of weights"


def describe(cfg: str, weights: str | None = None, cutoff: int | None = None) -> Info:
    """Description of a cfg; with weights, a check that they fit. Raises DarknetError."""
    network = Network(Cfg.load(cfg))
    header = Header()
    if weights is not None and is_checkpoint(weights):
        network, header = load_model(cfg, weights)
    elif weights is not None:
        header = load_weights(network, weights, cutoff)
    graph = ChannelGraph(network)
    rows = []
    for i, layer in enumerate(network.layers):
        producer = has_filters(layer)
        reason = graph.reason(i) if producer else None
        rows.append(
            SectionInfo(
                i,
                layer.section.type,
                _inputs(layer),
                str(layer.out_shape),
                layer.count_parameters(),
                layer.macs(),
                (reason is None) if producer else None,
                f"no: {reason}" if reason else "",
            )
        )
    return Info(
        cfg,
        rows,
        network.count_parameters(),
        network.macs(),
        weights_size(network, header),
        sum(family.cost * family.slots for family in graph.families),
    )


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _inputs(layer: Layer) -> str:
    """The sources of a section, or their number where that would be a long list."""
    if len(layer.inputs) > LISTED:
        return f"{len(layer.inputs)} sections"
    return " + ".join(map(str, layer.inputs))
