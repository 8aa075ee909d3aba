"""Loading a cfg with its weights, in any of the forms that commands accept."""

from __future__ import annotations

from yolo.cfg import Cfg
from yolo.errors import DarknetError, WeightsError
from yolo.models.checkpoint import is_checkpoint, load_checkpoint
from yolo.models.randomize import randomize
from yolo.models.weights import Header, load_weights
from yolo.network import Network

RANDOM = "random"  # random or random:SEED in place of a weights file


def is_random(weights: str) -> bool:
    """True for `random` or `random:SEED` instead of a weights file."""
    return weights.partition(":")[0] == RANDOM


def load_model(cfg: str | None, weights: str) -> tuple[Network, Header]:
    """A network with the tensors of a .weights or .pt file, or with `random[:SEED]` ones.

    A .pt contains its cfg, so `cfg` may be None; one that is given replaces it. Raises
    DarknetError; WeightsError where sections are left without tensors.
    """
    if is_checkpoint(weights):
        checkpoint = load_checkpoint(weights)
        network = checkpoint.network(None if cfg is None else Cfg.load(cfg))
        _check_complete(network, weights)
        return network, checkpoint.header
    if cfg is None:
        raise DarknetError(f"{weights}: needs a cfg; only a .pt file contains its own")
    network = Network(Cfg.load(cfg))
    if is_random(weights):
        seed = weights.partition(":")[2] or "0"
        if not seed.isdecimal():
            raise DarknetError(f"{weights}: expected {RANDOM} or {RANDOM}:SEED with a whole number")
        randomize(network, int(seed) % 2**63)
        return network, Header()
    header = load_weights(network, weights)
    _check_complete(network, weights)
    return network, header


def _check_complete(network: Network, weights: str) -> None:
    """Raises WeightsError for a section without tensors."""
    for layer in network.layers:
        if any(tensor.is_meta for tensor in layer.stored().values()):
            if layer.plain_type and not layer.stored()["weights"].is_meta:
                missing = layer.section.error("has no posterior yet: train it, or use a plain cfg")
                raise WeightsError(f"{weights}: holds a plain model: {missing}")
            raise WeightsError(
                f"{weights}: holds only a backbone: {layer.section.error('gets no tensors')}"
            )
