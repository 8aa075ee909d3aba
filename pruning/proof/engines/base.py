"""The common part of all engines: files in a temporary folder, a process of its own."""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from yolo.cfg import Cfg
from yolo.errors import CfgError, DarknetError
from yolo.models.weights import save_weights
from yolo.network import Network

CHILD = Path(__file__).with_name("child.py")
Prepared = TypeVar("Prepared")
LIMIT = 600.0  # seconds for one run
# what Darknet says where it then goes on with something else
UNKNOWN = {
    r"Type not recognized: (\S+)": "the section",
    r"Couldn't find activation function (\S+),": "the activation",
    r'layer name "(\S+)" is not supported': "the section",
    r'activation name "(\S+)" is not supported': "the activation",
}
# hank-ai's Darknet prints it in colour
FATAL = re.compile(r"Error message: *(?:\x1b\[[\d;]*m)?([^\x1b\n]+)")
SYSTEM_ERRORS = frozenset(map(os.strerror, (0, *errno.errorcode)))


class EngineError(DarknetError):
    """The engine is missing, or can't run this model."""


@dataclass(frozen=True)
class Profile:
    """Milliseconds of one image on an idle machine, and what of them falls to the sections.

    Every section counts with the fastest of its runs: on a busy machine hardly any run of a whole
    network is undisturbed, but one of each section is. A section that is computed along with
    another one takes no time of its own; what an engine does beside them is only in `ms`. `engine`
    is what measured it, its version included.
    """

    engine: str
    threads: int
    ms: float
    sections: Mapping[int, float]


class Engine(Protocol):
    """Something that runs a written model; `name` is what a report calls it."""

    name: str

    def run(
        self, cfg: Cfg, network: Network, x: np.ndarray, layers: Sequence[int]
    ) -> dict[int, np.ndarray]:
        """Outputs (1, C, H, W) of the sections `layers` for x (1, C, H, W) in [0, 1].

        The engine reads `cfg` and the network's tensors from files. Its outputs are not
        checked here: run the original model first, and leave out an engine that can't reproduce it.
        Raises EngineError.
        """
        ...


class ProfilingEngine(Engine, Protocol):
    """An Engine that takes times, with so many `threads`; `version` is that of its package."""

    threads: int
    version: str

    def profile(self, cfg: Cfg, network: Network, runs: int = 10, seconds: float = 0.0) -> Profile:
        """Times in at least so many runs and so many seconds; raises EngineError."""
        ...


def imported_version(name: str, package: str) -> str:
    """The version of an engine's package; raises EngineError where it can't be imported."""
    try:
        return str(importlib.import_module(package).__version__)
    except ImportError as error:
        raise EngineError(f"{name} can't be imported: {error}") from error


def prepared(name: str, make: Callable[[], Prepared]) -> Prepared:
    """The network in the engine's sections; raises EngineError where it can't be."""
    try:
        return make()
    except CfgError as error:
        raise EngineError(f"{name} can't run it: {error}") from error


def with_variances(network: Network, change: Callable[[Tensor], Tensor]) -> Network:
    """A copy whose BN variances are `change`d (float64 in and out), the rest is shared.

    It compensates an engine's own BN epsilon.
    """
    state = {index: dict(tensors) for index, tensors in network.state().items()}
    for tensors in state.values():
        if "variance" in tensors:
            tensors["variance"] = change(tensors["variance"].double()).float()
    return Network.with_state(network.cfg, state)


def run_child(
    name: str,
    cfg: Cfg,
    network: Network,
    x: np.ndarray,
    program: str,
    job: Mapping[str, object],
    limit: float = LIMIT,
) -> dict[str, np.ndarray]:
    """Arrays that a program of children/ makes of a cfg and its weights; see run_program."""

    def write(folder: Path) -> None:
        (folder / "model.cfg").write_bytes(cfg.to_bytes())
        save_weights(network, folder / "model.weights")

    return run_program(name, network, write, x, program, job, limit)


def run_program(
    name: str,
    network: Network,
    write: Callable[[Path], None],
    x: np.ndarray,
    program: str,
    job: Mapping[str, object],
    limit: float = LIMIT,
) -> dict[str, np.ndarray]:
    """`write` a network, input (1, C, H, W) and job to a folder, run child.py, read its arrays.

    `program` names a file of children/.

    Raises EngineError when the process crashes, ends without a result or needs more than
    `limit` seconds.
    """
    image = network.image
    if x.shape != (1, image.channels, image.height, image.width):
        raise ValueError(f"an input of shape {x.shape} for a network that takes {image}")
    with tempfile.TemporaryDirectory(prefix="engine-") as path:
        folder = Path(path)
        try:
            write(folder)
            np.save(folder / "input.npy", np.ascontiguousarray(x, np.float32))
            file = CHILD.parent / "children" / f"{program}.py"
            content = {**job, "program": str(file)}
            (folder / "job.json").write_text(json.dumps(content))
            return _outcome(name, folder, limit)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise EngineError(f"{name} can't be started: {reason}") from error


def outputs(
    name: str, network: Network, layers: Sequence[int], results: Mapping[str, np.ndarray]
) -> dict[int, np.ndarray]:
    """The child's arrays as (1, C, H, W); raises EngineError for one of another size."""
    arrays = {}
    for index in layers:
        shape, array = network.layers[index].out_shape, results[str(index)]
        if array.size != shape.elements:
            raise EngineError(
                f"{name} computes an output of {'x'.join(map(str, array.shape[1:]))}, not of "
                f"{shape}: {network.cfg.layers[index].error('').args[0].strip()}"
            )
        arrays[index] = array.reshape(1, shape.channels, shape.height, shape.width)
    return arrays


def _outcome(name: str, folder: Path, limit: float) -> dict[str, np.ndarray]:
    command = [sys.executable, str(CHILD), str(folder)]
    # more threads than one gain nothing on a busy machine, and change the order of sums
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENCV_LOG_LEVEL": "OFF"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=limit
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{name} needs more than {limit:g} s") from error
    log, printed = (text.decode(errors="replace") for text in (done.stderr, done.stdout))
    result, reason = folder / "result.npz", folder / "error.txt"
    for pattern, kind in UNKNOWN.items():
        if match := re.search(pattern, log + printed):
            raise EngineError(f"{name} doesn't know {kind} {match[1]}")
    if match := FATAL.search(printed):
        raise EngineError(f"{name} can't run it: {match[1].strip()}")
    if reason.exists():
        raise EngineError(f"{name} {reason.read_text()}")
    if not result.exists():
        raise EngineError(f"{name} {_reason(done.returncode, log)}")
    with np.load(result) as arrays:
        return dict(arrays)


def _reason(code: int, log: str) -> str:
    """Why a process left no result, as what follows the engine's name in a sentence."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    # Darknet ends with perror(), behind which there may be a backtrace
    parts = [line.rpartition(": ") for line in lines]
    errors = [head for head, _, tail in parts if tail in SYSTEM_ERRORS]
    if errors:
        return f"can't run it: {errors[-1]}"
    if code < 0:
        return f"crashes on it ({signal.Signals(-code).name})"
    return f"can't run it: {lines[-1] if lines else f'it ends with {code}'}"
