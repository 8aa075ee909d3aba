"""Darknet's answers to many cases, from processes of their own that may crash."""

import os
import subprocess
import sys
from pathlib import Path

from paths import SHARED

ORACLE = SHARED / "oracle"


def ask(worker: str, arguments: list[str], folder: Path, names: list[str]) -> None:
    """Run a worker, which prints the name of each case that is done, until all are tried.

    A crash loses only the case it happened in: why stands in NAME.crashed.
    """
    environment = os.environ | {"PYTHONPATH": str(ORACLE), "OMP_NUM_THREADS": "1"}
    while names:
        command = [sys.executable, "-c", worker, *arguments, *names]
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
        done = [line for line in process.stdout.splitlines() if line in names]
        if len(done) < len(names):
            crashed = folder / f"{names[len(done)]}.crashed"
            crashed.write_text(f"exit {process.returncode}: {process.stderr[-300:]}")
        names = names[len(done) + 1 :]
