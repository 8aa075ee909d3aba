"""The processes that train together, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from yolo.network import Network

PATIENCE = timedelta(hours=4)


@dataclass(frozen=True)
class Ranks:
    """This process among `world` processes; rank 0 evaluates, writes and prints."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @classmethod
    def of_environment(cls) -> Ranks:
        """The ranks from torchrun's variables; one process without them."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, world, local = (
            int(os.environ.get(name, d)) for name, d in zip(names, "010", strict=True)
        )
        return cls(rank, world, local)

    @property
    def first(self) -> bool:
        return self.rank == 0

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """The process group while training lasts: nccl between GPUs, else gloo."""
        if self.world == 1:
            yield
            return
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.set_device(device)
        # the others wait while rank 0 evaluates
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", timeout=PATIENCE, device_id=device if on_gpu else None
        )
        try:
            yield
        finally:
            dist.destroy_process_group()

    def wrap(self, network: Network, device: torch.device) -> nn.Module:
        """The network, with gradients averaged over the processes where there are several."""
        if self.world == 1:
            return network
        devices = [device] if device.type == "cuda" else None
        # a section that feeds no head gets no gradient
        return DistributedDataParallel(network, device_ids=devices, find_unused_parameters=True)

    def alone(self, model: nn.Module) -> AbstractContextManager[None]:
        """A context in which gradients are only accumulated in this process."""
        if isinstance(model, DistributedDataParallel):
            return model.no_sync()
        return nullcontext()

    def any(self, value: bool, device: torch.device) -> bool:
        """True where `value` is True in any process."""
        return bool(self.total([float(value)], device)[0])

    def total(self, values: list[float], device: torch.device) -> list[float]:
        """Sums over the processes."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def wait(self) -> None:
        """Wait for all processes."""
        if self.world > 1:
            dist.barrier()
