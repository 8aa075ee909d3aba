"""Measure what users wait for: times, memory, and their ratio to the bare operation."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.bayesian import bayesian_rows
from bench.budgets import select_rows
from bench.peer_rows import peers_rows
from bench.ssd import ssd_rows
from bench.train import train_rows
from common.command import Parser, Steps, run

CFG = Path(__file__).resolve().parent.parent / "cfg" / "yolov3.cfg"
# runs in a process of its own, whose peak memory is the job's
WHOLE = """
import json, re, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pruning.proof.verify import Proofs
from pruning.run.prune import prune
from pruning.session import Inputs
from pruning.spec import Percent, Spec
start = time.perf_counter()
inputs, spec = Inputs(sys.argv[2], sys.argv[3]), Spec(sys.argv[5], Percent(0.5))
prune(inputs, spec, Proofs(()), 0).write(Path(sys.argv[4]), "bench")
seconds = time.perf_counter() - start
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(json.dumps([seconds, peak]))
"""
# the least that a command does which reads one file of weights and writes another
BARE = """
import os, sys
import numpy as np
import torch
np.fromfile(sys.argv[1], np.float32)
result = np.fromfile(sys.argv[2], np.float32)
with open(sys.argv[3], "wb") as file:
    file.write(result.data)
    file.flush()
    os.fsync(file.fileno())
"""
Median = Callable[[str, Callable[[], object]], float]


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "what",
        choices=("core", "select", "peers", "train", "bayesian", "ssd"),
        help="core: reading, graph, cut, writing; select: budgets, importances; peers: what cuts "
        "of Torch-Pruning keep; train: steps, evaluation, loading; bayesian: steps, thresholds and "
        "rates, export; ssd: detecting, loss",
    )
    parser.add_argument("--cfg", default=str(CFG), help="the network of core, select and peers")
    parser.add_argument("--weights", metavar="FILE", help="of peers")
    parser.add_argument(
        "--data", metavar="FILE", help="of peers: evaluate on its validation images"
    )
    parser.add_argument(
        "--targets",
        type=shares,
        default="0.8,0.65,0.5,0.35",
        metavar="LIST",
        help="of peers: shares of the MACs",
    )
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs a median is of")
    parser.add_argument("--json", metavar="FILE", help="write the figures, too")
    return parser.parse_args()


def shares(text: str) -> tuple[float, ...]:
    """0.8,0.5 → (0.8, 0.5)"""
    try:
        result = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        result = ()
    if not result or not all(0 < share < 1 for share in result):
        raise argparse.ArgumentTypeError(f"{text!r}: expected shares between 0 and 1, like 0.8,0.5")
    return result


def main() -> int:
    args = arguments()
    steps = Steps()
    repeat = max(args.repeat, 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures: dict[str, Callable[[], list[list[str]]]] = {
            "core": lambda: _core(args.cfg, folder, repeat, steps),
            "select": lambda: select_rows(args.cfg, repeat, steps),
            "peers": lambda: peers_rows(args.cfg, args.weights, args.data, args.targets, steps),
            "train": lambda: train_rows(folder, repeat, steps),
            "bayesian": lambda: bayesian_rows(folder, repeat, steps),
            "ssd": lambda: ssd_rows(folder, repeat, steps),
        }
        rows = measures[args.what]()
    steps.close()
    title = args.cfg if args.what in ("core", "select", "peers") else args.what
    from terminaltables import AsciiTable

    table = AsciiTable([["", "measured", "bare", "ratio", "target"], *rows], f" {title} ")
    for column in (1, 2, 3):
        table.justify_columns[column] = "right"
    if args.json:
        from yolo.files import write_file

        write_file(args.json, (json.dumps(rows, indent=2) + "\n").encode())
    print(table.table)
    return 0


def _core(cfg: str, folder: Path, repeat: int, steps: Steps) -> list[list[str]]:
    import numpy as np

    from pruning.graph.channels import ChannelGraph
    from yolo.cfg import Cfg
    from yolo.models.weights import load_weights, save_weights
    from yolo.network import Network

    steps("writing weights")
    network = Network(Cfg.load(cfg))
    path, copy = folder / "original.weights", folder / "copy.weights"
    _write_random(network, path)
    floats = np.fromfile(path, np.float32)

    def median(step: str, action: Callable[[], object]) -> float:
        steps(step)
        times = []
        for _ in range(repeat):
            start = time.perf_counter()
            action()
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    def write_bare() -> None:
        with open(copy, "wb") as file:
            file.write(floats.data)
            file.flush()
            os.fsync(file.fileno())

    parse = median("cfg", lambda: Cfg.load(cfg))
    build = median("build", lambda: Network(network.cfg))
    load = median("load", lambda: load_weights(network, path))
    bare_load = median("np.fromfile", lambda: np.fromfile(path, np.float32))
    save = median("save", lambda: save_weights(network, copy))
    bare_save = median("write", write_bare)
    graph = median("graph", lambda: ChannelGraph(network))
    rows = [
        ["cfg parse", _ms(parse), "", "", ""],
        ["network build", _ms(build), "", "", ""],
        ["weights load", _ms(load), _ms(bare_load), f"{load / bare_load:.2f}", "1.5 × np.fromfile"],
        ["weights save", _ms(save), _ms(bare_save), f"{save / bare_save:.2f}", ""],
        ["channel graph", _ms(graph), "", "", "50 ms"],
    ]
    for strategy in ("normal", "shortcut"):
        steps(f"whole prune, {strategy}")
        seconds, peak = _whole_prune(cfg, path, folder, strategy)
        rows.append([f"whole prune, {strategy}", _ms(seconds), "", "", "3000 ms"])
        rows.append(["  its peak memory", f"{peak / 1e6:.0f} MB", "", "", "900 MB"])
    rows.append(_command(cfg, path, folder, median))
    return [*rows, _forward(network, median)]


def _command(cfg: str, weights: Path, folder: Path, median: Median) -> list[str]:
    """The command without proofs, against a process that only imports torch, reads and writes."""
    root, out = Path(__file__).resolve().parent.parent, folder / "command"
    words = ["--cfg", cfg, "--weights", str(weights), "--out", str(out), "--name", "it"]
    prune = [str(root / "tools" / "prune.py"), *words, "--verify", "none", "--runs", "0"]
    bare = ["-c", BARE, str(weights), str(out / "it.weights"), str(folder / "bare.weights")]

    def process(arguments: list[str]) -> Callable[[], object]:
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    seconds = median("whole command", process(prune))
    least = median("torch, reading, writing", process(bare))
    target = "1.4 × torch, reading, writing"
    return ["whole command, normal", _ms(seconds), _ms(least), f"{seconds / least:.2f}", target]


def _write_random(network, path: Path) -> None:  # type: ignore[no-untyped-def]
    """Numbers of the right size; what they are doesn't matter here."""
    import torch

    from yolo.models.weights import save_weights

    random = torch.Generator().manual_seed(0)
    for layer in network.layers:
        shapes = {name: tensor.shape for name, tensor in layer.stored().items()}
        layer.store({n: torch.rand(s, generator=random) * 0.1 for n, s in shapes.items()})
    save_weights(network, path)


def _whole_prune(cfg: str, weights: Path, folder: Path, strategy: str) -> tuple[float, float]:
    root = str(Path(__file__).resolve().parent.parent)
    command = [sys.executable, "-c", WHOLE, root, cfg, str(weights), str(folder), strategy]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        from yolo.errors import DarknetError

        raise DarknetError(f"{strategy}: {done.stderr.strip().splitlines()[-1]}")
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def _forward(network, median: Median) -> list[str]:  # type: ignore[no-untyped-def]
    import torch

    from yolo.models.randomize import noise_image

    x, fused = noise_image(network), network.fused()
    with torch.inference_mode():
        slow = median("forward", lambda: network(x))
        fast = median("forward, BN folded", lambda: fused(x))
    return ["forward, BN folded", _ms(fast), _ms(slow), f"{fast / slow:.2f}", "1 × unfolded"]


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


if __name__ == "__main__":
    run(main)
