"""The start of a training: a network, its settings, and its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from yolo.cfg import Cfg
from yolo.datasets.data import Data
from yolo.errors import DarknetError, TrainingError
from yolo.evaluation.evaluate import check_classes, evaluate
from yolo.evaluation.loader import evaluation_loader
from yolo.models.checkpoint import is_checkpoint, load_checkpoint
from yolo.models.initialize import initialize, transfer
from yolo.models.load import is_random, load_model
from yolo.models.weights import Header, load_weights
from yolo.network import Network
from yolo.training.records import Row
from yolo.training.settings import Settings
from yolo.training.trainer import steps_per_epoch

SCORES = ("map", "precision", "recall", "f1", "top1", "topk")


@dataclass(frozen=True)
class Start:
    """The options for a network to train.

    `weights` are a .weights file (or its first `cutoff` sections), a .pt, or random[:SEED];
    `pretrained` is the cfg and the weights of a model that may have other heads. `size` (width,
    height) replaces that of [net]. Sections without tensors are initialised.
    """

    cfg: str | None
    weights: str | None = None
    cutoff: int | None = None
    pretrained: Sequence[str] | None = None
    size: tuple[int, int] | None = None
    seed: int = 0

    def network(self) -> tuple[Network, Header, list[int]]:
        """The network, its header, and the sections that got nothing from the pretrained model."""
        network, header = self._loaded()
        if self.size:
            network = network.resized(*self.size)
        missing = []
        if self.pretrained:
            other, _ = load_model(*self.pretrained)
            missing = transfer(network, other)
        initialize(network, self.seed)
        return network, header, missing

    def _loaded(self) -> tuple[Network, Header]:
        if self.weights and (is_checkpoint(self.weights) or is_random(self.weights)):
            if self.cutoff is not None:
                raise DarknetError(f"{self.weights}: --cutoff needs a .weights file")
            if is_random(self.weights):
                return load_model(self.cfg, self.weights)
            checkpoint = load_checkpoint(self.weights)
            return checkpoint.network(Cfg.load(self.cfg) if self.cfg else None), checkpoint.header
        if self.cfg is None:
            raise DarknetError("training needs a cfg, or a .pt file, which contains one")
        network = Network(Cfg.load(self.cfg))
        if not self.weights:
            return network, Header()
        return network, load_weights(network, self.weights, self.cutoff)


def settings_of(
    cfg: Cfg, data: Data, keys: Mapping[str, object], epochs: int | None
) -> tuple[Settings, int]:
    """Settings of [net], with `keys` replacing its own, scaled to `epochs`; and the epochs.

    Without `epochs` their number follows from max_batches=. A burn_in among the keys isn't scaled.
    Raises CfgError, and TrainingError where there is neither.
    """
    settings = Settings.of(cfg.edited({-1: keys}) if keys else cfg)
    steps = steps_per_epoch(data, settings)
    if epochs is None:
        if not settings.max_batches:
            raise TrainingError(
                str(cfg.net.error("max_batches= is missing: add it, or use --epochs"))
            )
        epochs = -(-settings.max_batches // steps)
    scaled = settings.over(epochs * steps)
    return (replace(scaled, burn_in=settings.burn_in) if "burn_in" in keys else scaled), epochs


def metric_of(
    network: Network,
    data: Data,
    workers: int,
    progress: Callable[[int], object] | None = None,
    points: int = 0,
) -> Callable[[Network], Row] | None:
    """A function that evaluates a network on the validation images; None where there are none.

    Checks them now: raises DarknetError. `points` is the rule for mAP (results.POINTS).
    """
    check_classes(network, data)
    if "valid" not in data.sources:
        return None
    images = evaluation_loader(data, network.cfg, workers=workers)

    def metric(network: Network) -> Row:
        result = evaluate(network, images, points=points, progress=progress)
        named = {name: getattr(result, name) for name in SCORES if hasattr(result, name)}
        return {"score": result.score} | named

    return metric
