"""A verdict on cuts without images: whether they are likely to leave anything of the accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pruning.cut.folding import Fold
from pruning.graph.channels import ChannelGraph
from pruning.run.measured import Measured
from pruning.selection.importance import channel_scores, group_scores
from pruning.session import Cut, Session
from yolo.detections import gives_boxes
from yolo.network import State

# no trained model kept a quarter of its mAP where more energy went: data/budgets.md
LIMIT = 0.15
HALF = 0.5  # of a measured score; what leaves less is said, whatever the energy
WAYS_OUT = "Ways out: --calibrate PHOTOS, or sparse training first (train -sr)."


@dataclass(frozen=True)
class Verdict:
    """Says that a cut takes too much; `energy` is the share of the scores' energy that goes.

    `scores` are the metric before and after, where it was measured, `metric` is its name.
    """

    energy: float
    metric: str
    scores: tuple[float, float] | None = None

    @property
    def text(self) -> str:
        """One line: what is wrong, and what to do."""
        held = f"the cut channels held {self.energy:.0%} of the scores' energy"
        if self.scores is None:
            return f"This is likely to leave almost no {self.metric}; {held}. {WAYS_OUT}"
        before, after = self.scores
        what = f"Too much is cut: {self.metric} falls from {before:.3f} to {after:.3f}"
        return f"{what}; {held}. {WAYS_OUT}" if self.energy >= LIMIT else f"{what}. {WAYS_OUT}"

    def to_json(self) -> dict[str, object]:
        return {"energy": self.energy, "limit": LIMIT, "text": self.text}


def verdict(session: Session, cut: Cut, before: Measured, after: Measured) -> Verdict | None:
    """The verdict on a cut of a trained network; None where nothing speaks against it.

    Cuts with calibration images aren't judged, nor are those that posteriors decided.
    """
    if session.images is not None or cut.posterior:
        return None
    energy = lost_energy(cut.graph, cut.graph.network.state(), cut.fold)
    if before.score and after.score:
        scores = before.score.value, after.score.value
        return Verdict(energy, before.score.title, scores) if scores[1] < HALF * scores[0] else None
    metric = "mAP" if gives_boxes(session.original) else "accuracy"
    return Verdict(energy, metric) if energy >= LIMIT else None


def lost_energy(graph: ChannelGraph, state: State, fold: Fold) -> float:
    """The share of Σγ² that goes with the cut channels, the mean over all families.

    |γ|, without BN the filter's norm, is the deviation of a channel before its activation; of
    coupled channels the largest counts.
    """
    energy = group_scores(graph, channel_scores(graph, state), "max") ** 2
    shares = [
        float((energy * ~fold.alive)[f.groups].sum() / max(energy[f.groups].sum(), 1e-30))
        for f in graph.families
    ]
    return float(np.mean(shares)) if shares else 0.0
