"""Results of an evaluation, as data and as tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from yolo.tables import table

# number of recalls that an AP is the mean over: the rule's name
POINTS = {0: "area under the curve (VOC 2010)", 11: "VOC 2007", 101: "COCO"}


@dataclass(frozen=True)
class ClassResult:
    """Results of one class: AP, and the true and false positives above the confidence."""

    name: str
    ap: float
    tp: int
    fp: int
    truths: int


@dataclass(frozen=True)
class DetectorEvaluation:
    """The numbers of `darknet detector map`; all shares are in [0, 1].

    Precision, recall, F1 and `iou` count the detections above `conf_thresh`; `iou` is the mean
    over all of them, 0 for the false ones. `coco` holds COCO's AP@[.5:.95] and its relatives.
    """

    map: float
    per_class: tuple[ClassResult, ...]
    iou: float
    images: int
    iou_thresh: float
    conf_thresh: float
    points: int
    coco: dict[str, float | None] | None = None
    key = "map"  # of the score in JSON

    @property
    def score(self) -> float:
        """The number by which networks are compared, in [0, 1]."""
        return self.map

    @property
    def score_name(self) -> str:
        recalls = f" and {self.points} recalls" if self.points else ""
        return f"mAP at IoU {self.iou_thresh:g}{recalls}"

    @property
    def tp(self) -> int:
        return sum(result.tp for result in self.per_class)

    @property
    def fp(self) -> int:
        return sum(result.fp for result in self.per_class)

    @property
    def fn(self) -> int:
        return sum(result.truths for result in self.per_class) - self.tp

    @property
    def precision(self) -> float:
        """True positives over all positives; 0 where nothing is found, where Darknet prints nan."""
        return self.tp / max(self.tp + self.fp, 1)

    @property
    def recall(self) -> float:
        return self.tp / max(self.tp + self.fn, 1)

    @property
    def f1(self) -> float:
        return 2 * self.tp / max(2 * self.tp + self.fp + self.fn, 1)

    def to_json(self) -> dict[str, object]:
        derived = ("precision", "recall", "f1", "tp", "fp", "fn")
        return asdict(self) | {name: getattr(self, name) for name in derived}

    def table(self) -> str:
        """The results as text; classes without objects and detections are only counted."""
        known = [r for r in self.per_class if r.truths or r.tp or r.fp]
        rows = [[r.name, f"{r.ap:.2%}", str(r.truths), str(r.tp), str(r.fp)] for r in known]
        above = f"above {self.conf_thresh:g}"
        header = ["class", "AP", "objects", f"right, {above}", f"wrong, {above}"]
        classes = table([header, *rows], f"{self.images} images", numbers=(1, 2, 3, 4))
        return "\n".join([classes, *self._silent_classes(), self._totals()])

    def _silent_classes(self) -> list[str]:
        absent = sum(result.truths == 0 for result in self.per_class)
        if not absent:
            return []
        verb = "class has" if absent == 1 else "classes have"
        return [f"{absent} {verb} no object in these images; in the mean they count as 0."]

    def _totals(self) -> str:
        rule = "" if self.points else ", area under the curve"
        rows = [
            [self.score_name + rule, f"{self.map:.6f}"],
            [f"precision above {self.conf_thresh:g}", f"{self.precision:.4f}"],
            ["recall", f"{self.recall:.4f}"],
            ["F1", f"{self.f1:.4f}"],
            ["mean IoU", f"{self.iou:.4f}"],
            ["right / wrong / missed", f"{self.tp} / {self.fp} / {self.fn}"],
        ]
        for name, value in (self.coco or {}).items():
            rows.append([f"COCO {name}", "-" if value is None else f"{value:.4f}"])
        return table([["", "all classes"], *rows], "", numbers=(1,))


@dataclass(frozen=True)
class ClassifierEvaluation:
    """Shares of images, in [0, 1], whose class is the likeliest, or among the `k` likeliest."""

    top1: float
    topk: float
    k: int
    images: int
    key = "top1"  # of the score in JSON
    score_name = "top-1"

    @property
    def score(self) -> float:
        """The number by which networks are compared, in [0, 1]."""
        return self.top1

    def to_json(self) -> dict[str, object]:
        return {"top1": self.top1, f"top{self.k}": self.topk, "k": self.k, "images": self.images}

    def table(self) -> str:
        """The results as text."""
        rows = [["top-1", f"{self.top1:.4f}"]]
        if self.k > 1:
            rows.append([f"top-{self.k}", f"{self.topk:.4f}"])
        return table([["", "accuracy"], *rows], f"{self.images} images", numbers=(1,))


Evaluation = DetectorEvaluation | ClassifierEvaluation
