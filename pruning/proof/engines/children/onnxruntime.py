"""onnxruntime's part in a process of its own; see child.py."""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 100  # characters of a reason


def compute(folder: Path, job: dict[str, Any]) -> dict[str, np.ndarray]:
    """The outputs of model.onnx in order, by job["layers"]; job["runs"]: times in ms.

    ms (runs,) of everything, of_nodes (runs, nodes) of the nodes, and their names.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeError(f"can't be imported: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.log_severity_level = 4
    options.enable_profiling = bool(job["runs"])
    options.profile_file_prefix = str(folder / "profile")
    x = {"images": np.load(folder / "input.npy")}
    try:
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        if job["runs"]:
            version = {"version": np.array(onnxruntime.__version__)}
            return {**_times(session, x, job["runs"], job["seconds"]), **version}
        outputs = session.run(None, x)
    except Exception as error:  # its errors have no common class
        raise RuntimeError(f"can't run it: {' '.join(str(error).split())[:LONGEST]}") from error
    return {str(index): array for index, array in zip(job["layers"], outputs, strict=True)}


def _times(session: Any, x: dict[str, np.ndarray], runs: int, seconds: float) -> dict[str, Any]:
    session.run(None, x)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < runs or time.perf_counter() < end:
        start = time.perf_counter()
        session.run(None, x)
        times.append(1000 * (time.perf_counter() - start))
    events = json.loads(Path(session.end_profiling()).read_text())
    of_nodes: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            of_nodes[event["name"].removesuffix("_kernel_time")].append(event["dur"] / 1000)
    columns = np.array(list(of_nodes.values()))[:, 1:].T  # without the first run
    return {"ms": np.array(times), "of_nodes": columns, "nodes": np.array(list(of_nodes))}
