"""A network measured: its cost, latencies and score, as a report shows them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import thop
import torch
from torch import nn

from pruning.measure.costs import Cost
from pruning.measure.latency import BRIEF, opencv_profile, torch_profile
from pruning.proof.engines.base import EngineError, Profile
from pruning.session import Session
from yolo.evaluation.results import Evaluation
from yolo.layers import Layer
from yolo.network import Network


@dataclass(frozen=True)
class Score:
    """A metric's value: `name` is that of JSON, map or top1, `title` says how it was computed."""

    name: str
    title: str
    value: float

    @classmethod
    def of(cls, evaluation: Evaluation) -> Score:
        return cls(evaluation.key, evaluation.score_name, evaluation.score)


@dataclass(frozen=True)
class Measured:
    """A network's cost, its MACs as thop counts them, and milliseconds by engine.

    `score` is there where there were labeled images, `profile` holds the latencies of sections.
    """

    cost: Cost
    macs_thop: int
    ms: Mapping[str, float | None]
    score: Score | None = None
    profile: Profile | None = None

    def to_json(self) -> dict[str, object]:
        """`map` of a detector, None where it isn't known, and `top1` of a classifier."""
        score = (
            {self.score.name: self.score.value, "metric": self.score.title} if self.score else {}
        )
        content = {"macs_thop": self.macs_thop, "map": None, "ms": dict(self.ms)}
        return {**asdict(self.cost), **content, **score}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measured:
        """All but the profile; raises an error of dict or of a conversion for anything else."""
        names = [name for name in ("map", "top1") if data.get(name) is not None]
        score = Score(names[0], data["metric"], float(data[names[0]])) if names else None
        cost = Cost(**{field.name: int(data[field.name]) for field in fields(Cost)})
        return cls(cost, int(data["macs_thop"]), dict(data["ms"]), score)


def measured(session: Session, network: Network, runs: int) -> Measured:
    """A network measured in `runs` runs, 0 for none.

    Where milliseconds were a target, the latencies that decided are those reported.
    """
    times: dict[str, float | None] = {"torch": None, "opencv": None}
    profile = session.latencies.measured(network) if session.is_timed else None
    if runs:
        session.progress("measuring")
        in_torch = torch_profile(network, runs, BRIEF)
        times["torch"] = in_torch.ms
        profile = profile or _in_opencv(network, runs) or in_torch
    if profile:
        times["torch" if profile.engine.startswith("torch") else "opencv"] = profile.ms
    score = Score.of(session.accuracy(network)) if session.accuracy else None
    cost = Cost.of(network, session.header)
    return Measured(cost, thop_macs(network), times, score, profile)


def _in_opencv(network: Network, runs: int) -> Profile | None:
    try:
        return opencv_profile(network, runs, BRIEF)
    except EngineError:
        return None


def thop_macs(network: Network) -> int:
    """MACs as thop counts them, BN included; thop sees shapes only, nothing is computed."""
    logging.getLogger("thop").setLevel(logging.ERROR)
    counted = nn.ModuleList(_Shapes(layer) for layer in network.layers)
    counted.forward = lambda x: [shapes() for shapes in counted]
    macs, _ = thop.profile(counted, (torch.empty(0),), verbose=False)
    return int(macs)


class _Shapes(nn.Module):
    """The modules of a section that thop counts, called with tensors that only have shapes."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.shapes = layer.inputs[0], layer.out_shape
        for name in ("conv", "linear", "bn"):
            module = getattr(layer, name, None)
            if module is not None:
                setattr(self, name, _twin(module))

    def forward(self) -> None:
        x, y = (
            torch.empty(1, shape.channels, shape.height, shape.width, device="meta")
            for shape in self.shapes
        )
        for name, module in self.named_children():
            module.forward = lambda x, y=y: y
            module(y if name == "bn" else x)


def _twin(module: nn.Module) -> nn.Module:
    """A module with the same tensors, and with room for what thop adds to it."""
    twin = copy.copy(module)
    twin._buffers = dict(module._buffers)
    return twin
