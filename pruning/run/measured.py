"""A network measured: its cost, latencies and score, as a report shows them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

import thop
import torch
from torch import nn

from pruning.measure.costs import Cost
from pruning.measure.latency import BRIEF, Profiler, profiler_of
from pruning.proof.engines.base import EngineError, Profile
from pruning.registry import TIMED
from pruning.session import Session
from yolo.evaluation.results import Evaluation
from yolo.layers import Layer
from yolo.network import Network

ROUNDS = 2  # more, where a cut network seems to be slower


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


def both_measured(session: Session, network: Network, runs: int) -> tuple[Measured, Measured]:
    """The original and a network that was cut from it, measured in `runs` runs, 0 for none."""
    networks = session.original, network
    profiles = profiles_of(session, networks, runs)
    first = next((name for name in _by_rank(session) if name in profiles), None)
    found = []
    for number, own in enumerate(networks):
        times = {name: profiles[name][number].ms if name in profiles else None for name in TIMED}
        profile = profiles[first][number] if first else None
        score = Score.of(session.accuracy(own)) if session.accuracy else None
        cost = Cost.of(own, session.header)
        found.append(Measured(cost, thop_macs(own), times, score, profile))
    return found[0], found[1]


def _by_rank(session: Session) -> list[str]:
    """The engines of times, that whose sections are shown first."""
    asked = [session.ms_engine] if session.is_timed or session.names_engine else []
    return [*asked, *TIMED]


def profiles_of(
    session: Session, networks: tuple[Network, Network], runs: int
) -> dict[str, tuple[Profile, Profile]]:
    """The times of two networks in every engine that runs both.

    Where milliseconds were a target, the latencies that decided are those reported.
    """
    found = {}
    for name in TIMED:
        if session.is_timed and session.ms_engine == name:
            before, after = map(session.latencies.measured, networks)
            found[name] = before, after
        elif runs:
            session.progress(f"measuring in {name}")
            with suppress(EngineError):
                found[name] = _alternately(profiler_of(name), networks, runs)
    return found


def _alternately(
    profiler: Profiler, networks: tuple[Network, Network], runs: int
) -> tuple[Profile, Profile]:
    """Times of two networks; where the second seems slower, the best of some more rounds."""
    before, after = (profiler(network, runs, BRIEF) for network in networks)
    if networks[0].cfg.to_bytes() == networks[1].cfg.to_bytes():
        return before, before
    for _ in range(ROUNDS):
        if after.ms <= before.ms:
            break
        again = [profiler(network, runs, BRIEF) for network in networks]
        before, after = _faster(before, again[0]), _faster(after, again[1])
    return before, after


def _faster(one: Profile, other: Profile) -> Profile:
    return one if one.ms <= other.ms else other


def slower(before: Measured, after: Measured) -> list[str]:
    """A warning for each engine in which a cut network is slower than the original."""
    return [
        f"slower than the original in {name}, {fast:.3g} ms in place of {slow:.3g}: see --round "
        "and --ms-engine"
        for name, slow in before.ms.items()
        if slow is not None and (fast := after.ms[name]) is not None and fast > slow
    ]


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
