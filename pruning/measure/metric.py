"""How good networks are: mAP or top-1 on labeled images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

from pruning.measure.progress import Progress
from yolo.cfg import Cfg
from yolo.datasets import sources
from yolo.datasets.batch import Batch
from yolo.datasets.data import Data
from yolo.datasets.evaluation import EvaluationLoader
from yolo.evaluation.evaluate import check_classes, evaluate
from yolo.evaluation.loader import evaluation_loader
from yolo.evaluation.results import Evaluation
from yolo.models.device import choose_device
from yolo.network import Network

KEPT_BYTES = 2**29  # of validation images that stay in memory from one network to the next


class Metric(Protocol):
    """A number that says how good a network is."""

    def scored(self, network: Network, progress: Progress) -> tuple[str, float]:
        """The name of the score, and the score."""
        ...


class Accuracy:
    """mAP or top-1 of networks on some images; none is evaluated twice."""

    def __init__(
        self,
        images: EvaluationLoader | CachedImages,
        points: int = 0,
        progress: Progress = lambda step: None,
    ) -> None:
        """`points` is the rule for mAP: results.POINTS."""
        self._images, self._points, self._progress = images, points, progress
        self._evaluations: dict[bytes, Evaluation] = {}

    @classmethod
    def of(
        cls,
        network: Network,
        path: str,
        points: int = 0,
        workers: int = 2,
        progress: Progress = lambda step: None,
    ) -> Accuracy:
        """On the validation images of a .data or .yaml file.

        Raises DarknetError for a file that is wrong, or that the network isn't made for.
        """
        data = sources.load(path)
        check_classes(network, data)
        return cls(validation_images(data, network.cfg, workers), points, progress)

    def __call__(self, network: Network, progress: Progress | None = None) -> Evaluation:
        """It is computed where that is fastest."""
        name = digest(network)
        if name not in self._evaluations:
            self._evaluations[name] = self._evaluated(network, progress or self._progress)
        return self._evaluations[name]

    def scored(self, network: Network, progress: Progress) -> tuple[str, float]:
        evaluation = self(network, progress)
        return evaluation.score_name, evaluation.score

    def _evaluated(self, network: Network, say: Progress) -> Evaluation:
        done, total = 0, len(self._images.items)

        def progress(count: int) -> None:
            nonlocal done
            done += count
            say(f"evaluating: {done} of {total} images")

        copy = Network.with_state(network.cfg, network.state()).to(choose_device())
        return evaluate(copy, self._images, points=self._points, progress=progress)


class CachedImages:
    """The batches of a loader, read only once."""

    def __init__(self, loader: EvaluationLoader) -> None:
        self.data, self.letterbox, self.items = loader.data, loader.letterbox, loader.items
        self._loader = loader
        self._batches: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._batches is None:
            batches = []
            for batch in self._loader:
                batches.append(batch)
                yield batch
            self._batches = batches
        else:
            yield from self._batches


def validation_images(data: Data, cfg: Cfg, workers: int = 2) -> EvaluationLoader | CachedImages:
    """Those of a data set, read only once where they fit into memory; raises DataError."""
    loader = evaluation_loader(data, cfg, workers=workers)
    task = loader.task
    size = 4 * task.channels * task.height * task.width * len(loader.items)
    return CachedImages(loader) if size <= KEPT_BYTES else loader


def digest(network: Network) -> bytes:
    """Equal for networks of the same cfg and the same numbers."""
    hasher = hashlib.blake2b(network.cfg.to_bytes())
    for tensors in network.state().values():
        for tensor in tensors.values():
            hasher.update(tensor.cpu().contiguous().numpy().tobytes())
    return hasher.digest()
