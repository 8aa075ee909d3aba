"""Latencies of sections on a machine: kept in a file, and predicted for widths not measured.

A section's latency depends on its kind, that is all of it but its widths, and on these. The
measurements of a kind are fitted by ms = a·MACs + b·channels, a and b not negative: narrower is
never slower.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pruning.measure.savings import SectionRates
from yolo.errors import DarknetError
from yolo.files import write_file
from yolo.layers import Layer
from yolo.records import read_record, record

Widths = tuple[int, int]  # inputs and outputs of a section, in channels
Times = dict[str, dict[Widths, float]]  # kind of section → widths → milliseconds

KIND, SCHEMA = "table of latencies", 2
SHAPING = ("size", "stride", "dilation", "padding", "reverse")  # beside the sizes of the maps
MOST = 64  # widths that are kept of a kind, the latest
LEAST_MS = 1e-3  # smaller times are mostly the clock's


@dataclass(frozen=True)
class SectionKind:
    """All that a latency depends on beside widths; `weighs` where inputs count, too."""

    name: str
    weighs: bool

    @classmethod
    def of(cls, layer: Layer) -> SectionKind:
        """That of a section."""
        groups = layer.groups
        full, before, after = layer.mixes, layer.inputs[:1], layer.out_shape
        shape = [f"{key}={getattr(layer, key)}" for key in SHAPING if hasattr(layer, key)]
        shape += [f"groups={groups}" if full else "depthwise"] if groups > 1 else []
        maps = [f"{s.height}x{s.width}" for s in (*before, after)]
        activation = [layer.section.text("activation", "")]
        words = (layer.section.type, *shape, *activation, " to ".join(maps))
        return cls(" ".join(word for word in words if word), full)

    def amounts(self, widths: Widths) -> tuple[int, int]:
        """The amounts that its latency is proportional to."""
        inputs, outputs = widths
        return (inputs * outputs, inputs + outputs) if self.weighs else (outputs, 0)


class LatencyTable:
    """Milliseconds of sections of this machine, in one engine with so many threads.

    A file holds the tables of several machines, so that a folder may be shared.
    """

    def __init__(self, path: Path | None, machine: str) -> None:
        """`path` is where it is kept; raises DarknetError for a file that isn't one.

        None is a file in the user's cache, which is made anew where it can't be used.
        """
        self.machine, self._path = machine, path
        self._times: Times = self._read().times.get(machine, {})
        self._fits: dict[SectionKind, tuple[float, float]] = {}

    def add(self, measurements: Mapping[tuple[SectionKind, Widths], float]) -> None:
        """Take up measurements in the place of older ones, and keep them."""
        for (kind, widths), ms in measurements.items():
            times = self._times.setdefault(kind.name, {})
            times.pop(widths, None)
            times[widths] = ms
            for oldest in list(times)[:-MOST]:
                del times[oldest]
        self._fits.clear()
        self._write()

    def predict(self, kind: SectionKind, widths: Widths) -> float:
        """Milliseconds; 0 where nothing like it was measured."""
        return float(np.dot(self._fitted(kind), kind.amounts(widths)))

    def rates(self, kinds: Sequence[SectionKind]) -> SectionRates:
        """The milliseconds of sections of these kinds, by their widths."""
        fits = np.array([self._fitted(kind) for kind in kinds]).reshape(-1, 2)
        weighs = np.array([kind.weighs for kind in kinds], bool)
        pairs, each = np.where(weighs, fits[:, 0], 0.0), np.where(weighs, fits[:, 1], 0.0)
        return SectionRates(each, np.where(weighs, each, fits[:, 0]), pairs)

    @property
    def width_step(self) -> int | None:
        """The step of widths that was kept for this machine; None where none was."""
        return self._read().width_steps.get(self.machine)

    def keep_width_step(self, width_step: int) -> None:
        """Keep it with the measurements."""
        self._write({self.machine: width_step})

    def _fitted(self, kind: SectionKind) -> tuple[float, float]:
        if kind not in self._fits:
            self._fits[kind] = _fit(kind, self._times.get(kind.name, {}))
        return self._fits[kind]

    def _read(self) -> Tables:
        path = self._path or cache_file()
        if not path.exists():
            return Tables()
        try:
            return read_tables(path)
        except DarknetError:
            if self._path:
                raise
            return Tables()

    def _write(self, width_steps: Mapping[str, int] | None = None) -> None:
        known = self._read()
        times = {**known.times, self.machine: self._times}
        tables = Tables(times, {**known.width_steps, **(width_steps or {})})
        try:
            write_file(self._path or cache_file(), tables.to_json().encode())
        except DarknetError:
            if self._path:  # without a cache the next search measures again
                raise


def cache_file() -> Path:
    """Where tables are kept unless a user says where."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "darknet-pruning" / "latencies.json"


@dataclass(frozen=True)
class Tables:
    """All that a file holds: the times of machines, and the steps of widths there."""

    times: Mapping[str, Times] = field(default_factory=dict)
    width_steps: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parsed(cls, data: Mapping[str, Any]) -> Tables:
        """Raises an error of dict or of a conversion for anything else."""
        times = {
            str(machine): {str(kind): _times(rows) for kind, rows in kinds.items()}
            for machine, kinds in data["machines"].items()
        }
        steps = {str(name): int(step) for name, step in data.get("width_steps", {}).items()}
        if min(steps.values(), default=1) < 1:
            raise ValueError("a step is at least 1")
        return cls(times, steps)

    def to_json(self) -> str:
        """The text that read_tables reads."""
        machines = {
            machine: {
                kind: [[*widths, round(ms, 6)] for widths, ms in rows.items()]
                for kind, rows in times.items()
            }
            for machine, times in self.times.items()
        }
        content = {"machines": machines, "width_steps": dict(self.width_steps)}
        return record(KIND, SCHEMA, content, indent=1)


def read_tables(path: Path) -> Tables:
    """Raises DarknetError for a file that isn't a table."""
    return read_record(path, KIND, SCHEMA, Tables.parsed)


def _times(rows: list[list[float]]) -> dict[Widths, float]:
    times = {(int(inputs), int(outputs)): float(ms) for inputs, outputs, ms in rows}
    for widths, ms in times.items():
        if min(widths) < 0 or not (ms >= 0 and math.isfinite(ms)):
            raise ValueError(f"{widths}: {ms}")
    return times


def _fit(kind: SectionKind, measurements: Mapping[Widths, float]) -> tuple[float, float]:
    """The factors that leave the least relative error; (0, 0) where nothing is known."""
    if not measurements:
        return 0.0, 0.0
    times = np.array(list(measurements.values()))
    amounts = np.array([kind.amounts(widths) for widths in measurements], float)
    # relative to the times, so that the small widths count as much as the large ones
    scale = np.maximum(times, LEAST_MS)
    rows, scaled = amounts / scale[:, None], times / scale
    best, error = (0.0, 0.0), math.inf
    # one measurement can't separate the two: all is attributed to the MACs
    for used in ((0, 1), (0,), (1,)) if len(measurements) > 1 else ((0,),):
        columns = rows[:, used]
        if np.linalg.matrix_rank(columns) < len(used):
            continue
        factors = np.zeros(2)
        factors[list(used)] = np.linalg.lstsq(columns, scaled, rcond=None)[0]
        residual = float(np.square(rows @ factors - scaled).sum())
        if factors.min() >= 0 and residual < error:
            best, error = (float(factors[0]), float(factors[1])), residual
    return best
