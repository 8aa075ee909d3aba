"""Files of a state dict from torch.save: tensors by name, and nothing that would run code."""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from yolo.cfg import Section
from yolo.errors import WeightsError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # keys under which scripts save it
PARALLEL = "module."  # the prefix that nn.DataParallel adds to every name
UNREADABLE = (  # errors of torch.load for files that aren't its own
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)


class StateDict:
    """Tensors by name, on the CPU; each is taken once, and none may be left at the end."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read a file; raises WeightsError."""
        self.path = path
        self.tensors = _tensors(path, _unwrapped(_load(path)))

    @property
    def groups(self) -> set[str]:
        """The first parts of the names."""
        return {name.partition(".")[0] for name in self.tensors}

    def modules(self, group: str) -> list[str]:
        """The modules of a group by their numbers: vgg.0, vgg.2, …"""
        pattern = re.compile(rf"{group}\.([0-9]{{1,9}})\.(weight|bias)")
        matches = (pattern.fullmatch(name) for name in self.tensors)
        return [f"{group}.{number}" for number in sorted({int(m[1]) for m in matches if m})]

    def put_into(self, group: str) -> None:
        """Move all tensors into a group."""
        self.tensors = {f"{group}.{name}": tensor for name, tensor in self.tensors.items()}

    def take(self, name: str, shape: torch.Size, section: Section) -> Tensor:
        """A 32-bit tensor for a section; raises WeightsError for a missing or unsuitable one."""
        if name not in self.tensors:
            raise WeightsError(f"{self.path}: {name} is missing: {section.error('needs it')}")
        tensor = self.tensors.pop(name).detach().float()
        if tensor.shape != shape:
            needs = section.error(f"needs {_text(shape)}")
            raise WeightsError(f"{self.path}: {name} has the shape {_text(tensor.shape)}: {needs}")
        if not tensor.isfinite().all():
            raise WeightsError(f"{self.path}: not all numbers of {name} are finite")
        return tensor

    def finish(self, where: str) -> None:
        """Raises WeightsError where a tensor hasn't been taken."""
        for name in self.tensors:
            raise WeightsError(f"{self.path}: {name[:60]!r} belongs to no section of {where}")


def _load(path: str | os.PathLike[str]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd pickles: their content is checked anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WeightsError(f"{path}: can't read the state dict: {reason}") from error
    except UNREADABLE as error:
        raise WeightsError(
            f"{path}: is not a state dict, or is damaged; pickled objects are refused, as loading "
            "them runs code: save a state_dict()"
        ) from error


def _unwrapped(content: Any) -> Any:
    for _ in WRAPPERS:
        if isinstance(content, Mapping):
            inner = (content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping))
            content = next(inner, content)
    return content


def _tensors(path: str | os.PathLike[str], content: Any) -> dict[str, Tensor]:
    """The content as tensors by name, without a common prefix; raises WeightsError."""
    if not isinstance(content, Mapping) or not content:
        kind = "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise WeightsError(f"{path}: is not a state dict: it holds {kind}")
    for name, tensor in content.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor)):
            problem = f"{str(name)[:60]!r} is of type {type(tensor).__name__}, not a tensor"
            raise WeightsError(f"{path}: is not a state dict: {problem}")
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            raise WeightsError(f"{path}: {name[:60]!r} doesn't hold plain floating-point numbers")
    prefix = PARALLEL if all(name.startswith(PARALLEL) for name in content) else ""
    return {name.removeprefix(prefix): tensor for name, tensor in content.items()}


def _text(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "of one number"
