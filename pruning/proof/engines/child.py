"""Runs one engine in a process of its own, so that a crash or an exit takes nothing with it.

`python child.py FOLDER`: the folder holds model.cfg, model.weights, input.npy and job.json, whose
"program" is a file with a function compute(folder, job) → arrays. The child leaves result.npz
there, or error.txt with what can follow the engine's name in a sentence: the message of a
RuntimeError.
It imports nothing of this project, so that it starts fast.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    try:
        arrays = runpy.run_path(job["program"])["compute"](folder, job)
    except RuntimeError as error:
        (folder / "error.txt").write_text(str(error))
        return
    np.savez(folder / "partial.npz", **arrays)
    os.replace(folder / "partial.npz", folder / "result.npz")


if __name__ == "__main__":
    sys.path.pop(0)  # the files here have names of packages, which a program wants to import
    main(Path(sys.argv[1]))
