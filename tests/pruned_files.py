"""Models to prune, and the files of what is left of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path

import torch
from jobs import Job, make_job, prune
from paths import ROOT
from specs import spec
from trained_models import trained_model

from pruning.run.prune import Result
from yolo.cfg import Cfg
from yolo.models.weights import load_weights
from yolo.network import Network

OF_SPECS = set(inspect.signature(spec).parameters)
FILES = {"cfg": Path("x.cfg"), "weights": Path("x.weights")}  # in the folder where a test is


@dataclass(frozen=True)
class Model:
    """A cfg and its weights, or random:SEED for them."""

    cfg: str
    weights: str

    def job(self, strategy: str = "shortcut", percent: float | None = 0.5, **more: object) -> Job:
        own = {name: more.pop(name) for name in list(more) if name in OF_SPECS}
        return make_job(
            self.cfg,
            self.weights,
            spec(strategy, percent, **own),
            **{"verify": ("torch",), "runs": 0, **more},
        )


def real(name: str) -> Model:
    cfg, weights = trained_model(name)
    return Model(str(cfg), str(weights))


def ours(name: str, size: int, folder: Path) -> Model:
    cfg = Cfg.load(ROOT / "cfg" / f"{name}.cfg").edited({-1: {"width": size, "height": size}})
    cfg.write(folder / f"{name}.cfg")
    return Model(str(folder / f"{name}.cfg"), "random:0")


def files(folder: Path) -> dict[str, bytes]:
    """The content of all files; the report's own folder is left out of it."""
    here = str(folder).encode()
    return {path.name: path.read_bytes().replace(here, b"") for path in folder.iterdir()}


def written(job: Job, folder: Path, stem: str = "x") -> Result:
    folder.mkdir(exist_ok=True)
    result = prune(job)
    result.write(folder, stem)
    return result


def check_files(result: Result, folder: Path, stem: str = "x") -> Network:
    """The written files are what the result says, byte for byte; gives the model in them."""
    cfg, weights = folder / f"{stem}.cfg", folder / f"{stem}.weights"
    network = Network(Cfg.load(cfg))
    assert weights.stat().st_size == result.header.size + 4 * network.count_floats()
    assert weights.stat().st_size == result.report.after.cost.bytes
    assert load_weights(network, weights) == result.header
    assert cfg.read_bytes() == result.cut.network.cfg.to_bytes()
    state, expected = network.state(), result.cut.network.state()
    assert state.keys() == expected.keys()
    for index, tensors in expected.items():
        assert state[index].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert torch.equal(state[index][name], tensor), (index, name)
    return network
