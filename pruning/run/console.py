"""The installed command: `darknet-pruning prune …` is `python tools/prune.py …`."""

from __future__ import annotations

import runpy
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

NAME = "darknet-pruning"
COMMANDS = {
    "prune": "cut a model, prove it, write its cfg and weights",
    "train": "train, sparsify or fine-tune a model",
    "test": "mAP of a detector, accuracy of a classifier",
    "detect": "find objects in pictures and videos",
    "info": "sections, parameters, MACs, and what can be pruned",
    "convert": "make data sets and cfgs for Darknet",
    "export": "write a model for Darknet or OpenCV, or turn .pt and .weights into each other",
    "compare": "many cuts in one table and one picture",
    "bench": "measure times and memory",
}


def main() -> None:
    """Run the command that the first argument names; exits as it does."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(_help())
        sys.exit(0)
    if name == "--version":
        print(NAME, version(NAME))
        sys.exit(0)
    if name not in COMMANDS:
        print(f"error: {name}: expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    tools = _tools()
    sys.argv = [f"{NAME} {name}", *sys.argv[2:]]
    sys.path.insert(0, str(tools))
    runpy.run_path(str(tools / f"{name}.py"), run_name="__main__")


def _help() -> str:
    rows = "\n".join(f"  {name:8} {text}" for name, text in COMMANDS.items())
    return f"usage: {NAME} COMMAND [options]\n\n{rows}\n\n{NAME} COMMAND --help says more."


def _tools() -> Path:
    """The folder of the commands: in the checkout, or where a wheel puts them."""
    checkout = Path(__file__).resolve().parents[2] / "tools"
    if (checkout / "prune.py").exists():
        return checkout
    return Path(sysconfig.get_path("data")) / "share" / NAME / "tools"
