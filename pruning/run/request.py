"""What is compared, and the keys by which finished outcomes are found again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path

from pruning.calibration.images import DATA
from pruning.calibration.reconstruct import METHODS
from pruning.options import (
    CALIBRATION_IMAGES,
    IMPORTANCES,
    RECOVERIES,
    SENSITIVITY,
    STRATEGIES,
)
from pruning.run.compare import COUNTED, ORIGINAL, Cut
from pruning.selection.importance import MEASURED
from pruning.targets import parse_targets
from yolo.datasets import sources
from yolo.datasets.data import find
from yolo.errors import DarknetError, PlanError
from yolo.models.load import is_random


@dataclass(frozen=True)
class Request:
    """What is compared: every combination of strategies, importances, targets and recoveries.

    The validation images of `data` tell mAP, by the rule `points` (results.POINTS), or top-1;
    without data it is told how far the heads are off, on images of `calibrate` that calibrated
    nothing, or on noise. `runs` is how often a forward pass is timed in each turn, 0 not at
    all. The rest is as in job.Job.
    """

    cfg: str | None
    weights: str
    strategies: tuple[str, ...]
    importances: tuple[str, ...]
    targets: tuple[str, ...]
    recoveries: tuple[str, ...]
    data: str | None = None
    points: int = 0
    calibrate: str | None = None
    calibration_images: int = CALIBRATION_IMAGES
    runs: int = 0

    def check(self) -> None:
        """Raises PlanError for what no network could fulfil."""
        _check_names("strategy", self.strategies, STRATEGIES)
        if SENSITIVITY in self.importances:
            raise PlanError(f"importance {SENSITIVITY}: needs a scan: prune.py --scan")
        _check_names("importance", self.importances, IMPORTANCES)
        _check_names("recover", self.recoveries, RECOVERIES)
        if not self.targets:
            raise PlanError("target: expected at least one")
        for target in (t for text in self.targets for t in parse_targets(text)):
            if target.name not in COUNTED:
                raise PlanError(f"target {target}: only {', '.join(COUNTED)} are compared")
        for cut in () if self.calibrate else self.cuts():
            for what, name, wanting in (
                ("importance", cut.importance, MEASURED),
                ("recover", cut.recover, METHODS),
            ):
                if name in wanting:
                    raise PlanError(f"{what} {name}: needs images: --calibrate")

    def cuts(self) -> list[Cut]:
        """All combinations; those that share most follow each other."""
        axes = self.strategies, self.importances, self.targets, self.recoveries
        return [Cut(*names) for names in dict.fromkeys(product(*axes))]

    def keys(self) -> dict[Cut, str]:
        """What names the outcome of every cut, and first of the original, among all others.

        It changes with the settings that matter to it, and with names, sizes and times of the cfg,
        the weights and the lists or folders of images. Raises DarknetError for what isn't there.
        """
        weights = self.weights if is_random(self.weights) else stamps(self.weights)
        images = [self.calibration_images, *stamps(self.calibrate)]
        judge = [self.points, *stamps(self.data)] if self.data else images
        shared = [stamps(self.cfg), weights, judge]
        found = {ORIGINAL: _digest(shared)}
        for cut in self.cuts():
            found[cut] = _digest([*shared, *astuple(cut), images if wants_images(cut) else None])
        return found


def images_key(
    data: str | None, points: int, calibrate: str | None, count: int = CALIBRATION_IMAGES
) -> str:
    """What names the images that judge networks or calibrate them, as Request.keys has them."""
    return _digest([stamps(data), points, stamps(calibrate), count if calibrate else None])


def _check_names(what: str, given: tuple[str, ...], known: Mapping[str, str]) -> None:
    if not given:
        raise PlanError(f"{what}: expected at least one")
    for name in given:
        if name not in known:
            raise PlanError(f"{what} {name}: expected some of {', '.join(known)}")


def wants_images(cut: Cut) -> bool:
    """Whether a cut looks at calibration images."""
    return cut.importance in MEASURED or cut.recover in METHODS


def stamps(given: str | None) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a file, of all in a folder, or of what a data file lists."""
    if given is None:
        return []
    path = Path(given)
    paths = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = [_stamp(p) for p in paths]
    if path.suffix.lower() in DATA:
        data = sources.load(given)
        for split_sources in data.sources.values():
            for source in split_sources:
                found += stamps(find(source, data.folders))
    return found


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        told = path.stat()
    except OSError as error:
        raise DarknetError(f"{path}: can't read it: {(error.strerror or '').lower()}") from error
    return os.path.realpath(path), told.st_size, told.st_mtime_ns


def _digest(settings: object) -> str:
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
