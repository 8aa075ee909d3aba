"""The .pt codec: a network with its cfg, and the state of its training; never pickled objects."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from yolo.cfg import Cfg
from yolo.errors import WeightsError
from yolo.files import Writer
from yolo.models.weights import Header
from yolo.network import Network, State

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A network's cfg and tensors, and the state of its training (empty where there is none).

    `training` holds numbers, texts, tensors, and lists and dicts of them.
    """

    cfg: Cfg
    state: State
    header: Header = field(default_factory=Header)
    training: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def copy(self) -> Checkpoint:
        """A copy with tensors of its own."""
        state = {i: {n: t.clone() for n, t in ts.items()} for i, ts in self.state.items()}
        return Checkpoint(self.cfg, state, self.header, self.training)

    def network(self, cfg: Cfg | None = None) -> Network:
        """The network with the tensors; raises DarknetError where they don't fit the cfg.

        `cfg` replaces its own; a Bayesian section may take its means from a plain one.
        """
        network = Network(cfg or self.cfg)
        for index, stored in network.state().items():
            tensors, plain = self.state.get(index, {}), network.layers[index].means()
            if tensors.keys() not in (stored.keys(), plain.keys()):
                wrong = network.cfg.layers[index].error(f"needs {', '.join(stored)}")
                raise WeightsError(
                    f"{wrong}, but the checkpoint holds {', '.join(tensors) or 'none'}"
                )
        network.store(self.state)
        return network


def checkpoint_writer(checkpoint: Checkpoint) -> Writer:
    """A writer of a checkpoint."""
    content = {
        "format": FORMAT,
        "cfg": checkpoint.cfg.to_bytes().decode("latin-1"),
        "path": checkpoint.cfg.path,
        "header": list(astuple(checkpoint.header)),
        "tensors": {
            # with its memory layout: a resumed training would round differently with another
            f"{index}.{name}": tensor.detach().cpu()
            for index, tensors in checkpoint.state.items()
            for name, tensor in tensors.items()
        },
        "training": dict(checkpoint.training),
    }

    def write(file: BinaryIO) -> None:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's error for a full disk
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None

    return write


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a .pt file; raises WeightsError for anything that isn't a checkpoint of ours."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WeightsError(f"{path}: can't read the checkpoint: {reason}") from error
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        ValueError,
    ) as error:
        raise WeightsError(f"{path}: is not a checkpoint, or is damaged") from error
    try:
        if content["format"] != FORMAT:
            form = f"a checkpoint of format {content['format']}"
            raise WeightsError(f"{path}: {form}, this version reads {FORMAT}")
        cfg = Cfg(content["cfg"].encode("latin-1"), content["path"])
        state = _state(content["tensors"])
        return Checkpoint(cfg, state, Header(*content["header"]), content["training"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise WeightsError(f"{path}: is not a checkpoint: no {error}") from error


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """True for a file with the name of a checkpoint."""
    return Path(path).suffix in (".pt", ".pth")


def _state(tensors: Mapping[str, Tensor]) -> State:
    state: State = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        if not tensor.isfinite().all():
            raise ValueError(f"finite numbers in {key}")
        state.setdefault(int(index), {})[name] = tensor
    return state
