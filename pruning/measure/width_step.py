"""The step in which an engine computes channels, found with a few convolutions.

Engines that compute channels in blocks pad other widths, or fall back to slower code: onnxruntime's
depthwise convolutions take ten times as long where channels aren't a multiple of 4.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pruning.measure import latency
from pruning.measure.latency_table import LatencyTable
from pruning.measure.progress import Progress
from pruning.proof.engines.base import EngineError
from yolo.cfg import Cfg
from yolo.models.randomize import randomize
from yolo.network import Network

STEPS = (1, 2, 4, 8, 16)
UNKNOWN = 8  # the step where nothing can be measured
WHOLE = (16, 32, 48, 64)  # widths that no engine wastes time on
# widths by the largest of STEPS that they are multiples of
WIDTHS = {1: (17, 27, 45), 2: (18, 30, 46), 4: (20, 36, 52), 8: (24, 40, 56)}
SIZE = 24  # of the maps, in pixels
RUNS, SECONDS = 20, 0.5
WASTE = 0.2  # that widths in steps may cost beyond their share, on average
SECTIONS = 2  # that a width is tried with, after one that leads to it


def width_step(name: str, path: Path | None, progress: Progress) -> int | None:
    """The step of an engine of registry.TIMED on this machine; None where it can't be measured.

    It is measured once, and kept in the table of latencies at `path` (LatencyTable).
    """
    try:
        table = LatencyTable(path, latency.machine_of(name))
        found = table.width_step
        if found is None:
            progress(f"measuring the widths that suit {name}")
            found = measured_step(latency.profiler_of(name))
            table.keep_width_step(found)
        return found
    except EngineError:
        return None


def measured_step(profiler: latency.Profiler) -> int:
    """The smallest of STEPS whose widths waste little time; raises EngineError."""
    widths = [*WHOLE, *(width for some in WIDTHS.values() for width in some)]
    network = _ladder(widths)
    sections = profiler(network, RUNS, SECONDS).sections
    firsts = range(1, len(network.layers) - 1, 1 + SECTIONS)
    times = {
        width: sum(sections[first + n] for n in range(SECTIONS))
        for width, first in zip(widths, firsts, strict=True)
    }
    return next(step for step in STEPS if _waste(times, step) <= WASTE)


def _waste(times: dict[int, float], step: int) -> float:
    """The time that widths in steps cost beyond those between WHOLE, relative, on average."""
    whole = [times[width] for width in WHOLE]
    found, share = 0.0, 1.0
    for part in STEPS[STEPS.index(step) : -1]:
        # of the multiples of a step, every other one is one of its double
        share /= 2
        costs = [times[w] / np.interp(w, WHOLE, whole) - 1 for w in WIDTHS[part]]
        found += share * float(np.mean(costs))
    return found


def _ladder(widths: list[int]) -> Network:
    """A network that has, width after width, what detectors are made of most."""
    text = f"[net]\nwidth={SIZE}\nheight={SIZE}\nchannels={WHOLE[0]}\n"
    for width in widths:
        depthwise = _convolution(width, size=3, groups=width)
        text += _convolution(width) + depthwise + _convolution(width)
    # what the network ends with may take time to bring its output into order
    text += _convolution(WHOLE[0])
    network = Network(Cfg(text.encode(), "widths"))
    randomize(network)
    return network


def _convolution(filters: int, size: int = 1, groups: int = 1) -> str:
    lines = f"filters={filters}\nsize={size}\nstride=1\npad=1\ngroups={groups}\n"
    return f"[convolutional]\n{lines}activation=relu\n"
