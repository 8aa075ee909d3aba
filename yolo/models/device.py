"""The device that computes."""

import torch

from yolo.errors import DarknetError


def choose_device(name: str | None = None, number: int = 0) -> torch.device:
    """The device of that name (cpu, cuda, cuda:1 …), by default the GPU `number` if there is one.

    Raises DarknetError where it can't be used.
    """
    if name == "cuda" or (name is None and torch.cuda.is_available()):
        name = f"cuda:{number}"
    name = name or "cpu"
    try:
        torch.empty(0, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        raise DarknetError(f"--device {name}: {str(error).splitlines()[0]}") from error
