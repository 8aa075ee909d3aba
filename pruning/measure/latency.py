"""How long a network and its sections take on this machine."""

from __future__ import annotations

import functools
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from pruning.proof.engines.base import EngineError, Profile, ProfilingEngine
from pruning.registry import TIMED, TORCH
from yolo.models.randomize import noise_image
from yolo.network import Network

# seconds in which fast networks are run again and again: clocks and neighbours change meanwhile
BRIEF, PATIENT = 1.0, 3.0
DEFAULT = "opencv"  # the engine of milliseconds where none is asked for

Profiler = Callable[[Network, int, float], Profile]  # in at least so many runs and seconds


@functools.cache
def profiler_of(name: str) -> Profiler:
    """The profiler that times an engine of registry.TIMED, with as many threads as torch has.

    It raises EngineError where the engine is missing, or can't run a network.
    """
    if name == TORCH:
        return torch_profile

    def profile(network: Network, runs: int, seconds: float) -> Profile:
        # a key given twice or CRLF is no reason to leave an engine
        return _engine(name).profile(network.cfg.strict(), network, runs, seconds)

    return profile


def timed_engine(network: Network, asked: str | None = None) -> str:
    """The engine that times it and all that is cut from it: OpenCV if that can run it, else torch.

    Raises EngineError where the engine that was asked for can't run it.
    """
    if asked:
        profiler_of(asked)(network, 1, 0)
        return asked
    try:
        profiler_of(DEFAULT)(network, 1, 0)
    except EngineError:
        return TORCH
    return DEFAULT


def machine_of(name: str) -> str:
    """The machine that latencies in an engine are of; raises EngineError where it is missing."""
    if name == TORCH:
        return machine(Profile(f"torch {torch.__version__}", torch.get_num_threads(), 0.0, {}))
    engine = _engine(name)
    return machine(Profile(f"{engine.name} {engine.version}", engine.threads, 0.0, {}))


def _engine(name: str) -> ProfilingEngine:
    found: ProfilingEngine = TIMED[name].load()(torch.get_num_threads())
    return found


def torch_profile(network: Network, runs: int, seconds: float) -> Profile:
    """Times in torch, BatchNorms folded."""
    fused, x = network.fused(), noise_image(network)
    of_sections: dict[int, list[float]] = defaultdict(list)
    beside: list[float] = []
    started = 0.0

    def begin(layer: nn.Module, inputs: object) -> None:
        nonlocal started
        started = time.perf_counter()

    def end(layer: nn.Module, inputs: object, output: object) -> None:
        of_sections[indices[layer]].append(1000 * (time.perf_counter() - started))

    indices: dict[nn.Module, int] = {layer: i for i, layer in enumerate(fused.layers)}
    for layer in fused.layers:
        layer.register_forward_pre_hook(begin)
        layer.register_forward_hook(end)
    with torch.inference_mode():
        done = time.perf_counter() + seconds
        while len(beside) <= runs or time.perf_counter() < done:
            start = time.perf_counter()
            fused(x)
            total = 1000 * (time.perf_counter() - start)
            beside.append(total - sum(times[-1] for times in of_sections.values()))
    sections = {i: min(times) for i, times in of_sections.items()}
    total = min(beside) + sum(sections.values())
    return Profile(f"torch {torch.__version__}", torch.get_num_threads(), total, sections)


@dataclass(frozen=True)
class SectionTime:
    """Milliseconds of a section before and after a cut; None where it is gone."""

    index: int
    section: str
    before: float
    after: float | None


@dataclass(frozen=True)
class SectionTimes:
    """The times of all sections, as one engine takes them."""

    engine: str
    threads: int
    sections: tuple[SectionTime, ...]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def section_times(
    original: Network, before: Profile | None, after: Profile | None, origins: Mapping[int, int]
) -> SectionTimes | None:
    """None unless both were measured in one engine; `origins` maps sections to the original's."""
    if before is None or after is None or before.engine != after.engine:
        return None
    ms_after = {origins[i]: ms for i, ms in after.sections.items() if i in origins}
    times = [
        SectionTime(i, original.layers[i].section.type, ms, ms_after.get(i))
        for i, ms in before.sections.items()
    ]
    return SectionTimes(before.engine, before.threads, tuple(times))


def machine(profile: Profile) -> str:
    """The machine that latencies are of: processor, threads, engine."""
    threads = f"{profile.threads} thread{'' if profile.threads == 1 else 's'}"
    return f"{processor()}, {threads}, {profile.engine}"


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
