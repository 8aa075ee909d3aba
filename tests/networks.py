"""Networks with random tensors, and inputs for them."""

import dataclasses

import numpy as np
import torch

from yolo.cfg import Cfg, Option
from yolo.layers import kind_of
from yolo.network import Network


def build(text: str, seed: int = 0) -> Network:
    """A network of a cfg text whose tensors are random and keep activations of order 1."""
    network = Network(Cfg(text.encode(), "x.cfg"))
    generator = torch.Generator().manual_seed(seed)
    network.store(
        {
            index: {
                name: random_tensor(name, tensor.shape, generator) for name, tensor in t.items()
            }
            for index, t in network.state().items()
        }
    )
    return network


def random_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """What a trained network holds under this name: variances and scales are positive."""
    if name in ("variance", "scales"):
        return torch.rand(shape, generator=generator) + 0.5
    spread = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.3
    return torch.randn(shape, generator=generator) * spread


def random_input(network: Network, batch: int = 2, seed: int = 1) -> torch.Tensor:
    """(N, C, H, W), normally distributed: negative numbers reach the first section too."""
    shape = network.image
    size = (batch, shape.channels, shape.height, shape.width)
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def keys_asked(network: Network) -> set[str]:
    """The keys that building the last section looks up."""
    asked = set()

    class Recorder(dict[str, Option]):
        def __contains__(self, key: object) -> bool:
            asked.add(str(key))
            return super().__contains__(key)

    *earlier, last = network.layers
    section = dataclasses.replace(last.section, options=Recorder(last.section.options))
    kind_of(section)(section, earlier, network.image)
    return asked
