"""Objects marked difficult: Darknet's rule, the list that `difficult=` names, and who writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from cfgs import net, plain, yolo
from foreign_data import labels, write_image, write_sets, write_voc
from hypothesis import given
from hypothesis import strategies as st
from networks import build
from torch import Tensor

from yolo.datasets import sources
from yolo.detections import Detections
from yolo.errors import DataError
from yolo.evaluation.average_precision import Matches, average_precisions, count, match
from yolo.evaluation.coco import CocoBoxes
from yolo.evaluation.evaluate import evaluate
from yolo.evaluation.loader import evaluation_loader
from yolo.evaluation.results import DetectorEvaluation
from yolo.models.load import load_model

Box = tuple[int, float, float, float, float]  # class, centre x, y, width, height

DETECTOR = net(32, 32) + plain(14, stride=4) + yolo(2, "0,1", "8,8, 16,16")


def overlap(a: Box, b: Box) -> float:
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (1, 2)
    ]
    shared = max(sides[0], 0) * max(sides[1], 0)
    return shared / (a[3] * a[4] + b[3] * b[4] - shared)


Image = tuple[list[tuple[Box, float]], list[Box], list[Box]]  # predicted, truths, difficult


def darknet_hits(images: list[Image], thresh: float) -> list[tuple[int, bool]]:
    """The loops of validate_detector_map: class and truth of every detection that is left."""
    kept: list[tuple[float, int, int]] = []
    before = 0
    for predicted, truths, difficult in images:
        for box, confidence in predicted:
            best, which = 0.0, -1
            for number, truth in enumerate(truths):
                if box[0] == truth[0] and overlap(box, truth) > max(thresh, best):
                    best, which = overlap(box, truth), before + number
            excused = any(box[0] == d[0] and overlap(box, d) > thresh for d in difficult)
            if which >= 0 or not excused:
                kept.append((confidence, box[0], which))
        before += len(truths)
    taken: set[int] = set()
    hits = []
    for _, number, which in sorted(kept, key=lambda each: -each[0]):
        hits.append((number, which >= 0 and which not in taken))
        taken.add(which)
    return hits


def darknet_area(hits: list[bool], truths: int) -> float:
    """Each truth's share of the recall, times the best precision from there on."""
    precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return sum(max(precisions[i:]) / truths for i, hit in enumerate(hits) if hit)


# numbers that floats have exactly, so few that boxes coincide and confidences are equal
centres = st.integers(1, 3).map(lambda n: n / 4)
sides = st.sampled_from((0.25, 0.375, 0.5))
boxes = st.tuples(st.integers(0, 1), centres, centres, sides, sides)
confidences = st.integers(1, 4).map(lambda n: n / 4)
images = st.tuples(
    st.lists(st.tuples(boxes, confidences), max_size=8),
    st.lists(boxes, max_size=4),
    st.lists(boxes, max_size=4),
)


def tensor(rows: list[Box]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def detections(*predicted: tuple[Box, float]) -> Detections:
    rows = tensor([box for box, _ in predicted])
    return Detections(rows[:, 1:], rows[:, 0].long(), torch.tensor([p for _, p in predicted]))


@given(st.lists(images, min_size=1, max_size=3), st.sampled_from((0.3, 0.5, 0.75)))
def test_average_precision_is_darknets(images: list[Image], thresh: float) -> None:
    matches = Matches.join(
        [match(detections(*f), tensor(t), thresh, tensor(d)) for f, t, d in images]
    )
    hits = darknet_hits(images, thresh)
    truths = [truth[0] for _, each, _ in images for truth in each]
    wanted = [darknet_area([h for c, h in hits if c == k], truths.count(k)) for k in (0, 1)]
    assert len(matches.confidences) == len(hits)
    assert average_precisions(matches, 2) == pytest.approx(wanted, abs=1e-12)


HERE: Box = (0, 0.25, 0.25, 0.25, 0.25)
NEAR: Box = (0, 0.28125, 0.25, 0.25, 0.25)  # IoU 7/9 with HERE
THERE: Box = (0, 0.75, 0.75, 0.25, 0.25)
OTHER: Box = (1, 0.75, 0.75, 0.25, 0.25)  # another class
HALF: Box = (0, 0.75, 0.6875, 0.25, 0.125)  # IoU exactly 0.5 with THERE

CASES = {
    # detections by falling confidence, truths, difficult; (tp, fp), AP of class 0
    "on a difficult object": ([THERE, HERE], [HERE], [THERE], (1, 0), 1),
    "any number of them": ([THERE, THERE, HERE], [HERE], [THERE], (1, 0), 1),
    "of another class": ([OTHER, HERE], [HERE], [THERE], (1, 1), 1),
    "no more than the threshold": ([HALF, HERE], [HERE], [THERE], (1, 1), 0.5),
    "not difficult": ([THERE, HERE], [HERE], [], (1, 1), 0.5),
    "a difficult object isn't missed": ([HERE], [HERE], [THERE], (1, 0), 1),
    "nor found": ([THERE], [], [THERE], (0, 0), 0),
    "both: it is the truth's": ([HERE], [NEAR], [HERE], (1, 0), 1),
    "and the second is wrong": ([HERE, HERE], [NEAR], [HERE], (1, 1), 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_counts(case):
    predicted, truths, difficult, counts, ap = case
    rows = detections(*((box, 0.9 - i / 10) for i, box in enumerate(predicted)))
    matches = match(rows, tensor(truths), 0.5, tensor(difficult))
    counted = count(matches, 2, 0.25)
    assert (counted.tp.sum(), counted.fp.sum()) == counts
    assert average_precisions(matches, 2)[0] == ap
    assert len(matches.truth_classes) == len(truths)


@pytest.mark.parametrize(("difficult", "ap"), [([THERE], 1), ([], 0.5), ([OTHER], 0.5)])
def test_coco_ignores_them(difficult: list[Box], ap: float) -> None:
    coco = CocoBoxes(["a", "b"])
    predicted = detections((THERE, 0.9), (THERE, 0.8), (HERE, 0.7))
    coco.add(predicted, tensor([HERE]), (400, 400), tensor(difficult))
    coco.add(detections((HERE, 0.95)), tensor([HERE]), (400, 400))
    wanted = 1 if ap == 1 else (51 + 50 * 2 / 4) / 101  # the first of two comes before all
    assert coco.summary()["AP50"] == pytest.approx(wanted)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Two images of valid with a cat each, and a difficult dog in the second."""
    folder = tmp_path / "set"
    for name in ("a", "b"):
        write_image(folder / f"{name}.jpg")
        (folder / f"{name}.txt").write_text("0 .25 .5 .25 .5\n")
    (folder / "hard").mkdir()
    (folder / "hard" / "b.txt").write_text("1 .75 .5 .5 .25\n")
    (folder / "valid.txt").write_text("a.jpg\nb.jpg\n")
    (folder / "difficult.txt").write_text("hard/a.jpg\n\nhard/b.jpg\n")
    (folder / "x.names").write_text("cat\ndog\n")
    text = "names=x.names\nvalid=valid.txt\ntrain=valid.txt\ndifficult = difficult.txt\n"
    (folder / "x.data").write_text(text)
    return folder


@pytest.mark.parametrize("letterbox", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_they_come_with_the_images_of_valid(listed: Path, letterbox: bool, workers: int) -> None:
    cfg, data = build(DETECTOR).cfg, sources.load(listed / "x.data")
    (batch,) = evaluation_loader(data, cfg, workers=workers, letterbox=letterbox)
    assert batch.difficult.tolist() == [[1, 1, 0.75, 0.5, 0.5, 0.25]]  # of the image file
    assert batch.boxes[:, :2].tolist() == [[0, 0], [1, 0]]
    (batch,) = evaluation_loader(data, cfg, "train", workers=0)
    assert batch.difficult.shape == (0, 6)


def test_missing_label_files_are_no_problem_of_the_data(listed: Path) -> None:
    loader = evaluation_loader(sources.load(listed / "x.data"), build(DETECTOR).cfg, workers=0)
    assert len(list(loader)) == 1
    assert loader.problems.missing == 0


@pytest.mark.parametrize("letterbox", [False, True])
def test_nothing_is_wrong_where_all_is_difficult(listed: Path, letterbox: bool) -> None:
    """A network without weights finds a box of each anchor in each of its 8 × 8 cells."""
    network = build(DETECTOR)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0)

    def wrong() -> int:
        data = sources.load(listed / "x.data")
        loader = evaluation_loader(data, network.cfg, workers=0, letterbox=letterbox)
        evaluation = evaluate(network, loader, conf_thresh=0.2, iou_thresh=0.9)
        assert isinstance(evaluation, DetectorEvaluation)
        return evaluation.fp

    for name in ("a", "b"):
        (listed / f"{name}.txt").write_text("")
    before = wrong()
    tall = 2 if letterbox else 1  # in parts of the file's height, which is half its width
    cells = [(i + 0.5) / 8 for i in range(8)]
    rows = [
        f"{k} {x} {(y - 0.5) * tall + 0.5} {side} {side * tall}\n"
        for k in (0, 1)
        for x in cells
        for y in cells
        for side in (0.25, 0.5)
    ]
    for name in ("a", "b"):
        (listed / "hard" / f"{name}.txt").write_text("".join(rows))
    assert (before > 50, wrong()) == (True, 0)


BAD = {
    "another length": ("difficult.txt", "hard/b.jpg\n", r"x\.data:4: .* 1 images, but valid has 2"),
    "no list": ("x.data", "names=x.names\nvalid=valid.txt\ndifficult=no.txt", r"x\.data:3: .* no"),
    "no label file": ("difficult.txt", "c.jpg\nd.jpg\n", "none of 2 images has a label file; .*c"),
    "no numbers": ("hard/b.txt", "1 .5 .5 .5\n", r"hard/b\.txt:1: 4 columns"),
}


@pytest.mark.parametrize(("file", "text", "message"), BAD.values(), ids=BAD)
def test_bad_lists(listed: Path, file: str, text: str, message: str) -> None:
    (listed / file).write_text(text)
    with pytest.raises(DataError, match=message):
        list(evaluation_loader(sources.load(listed / "x.data"), build(DETECTOR).cfg, workers=0))


OBJECTS = {
    "a": [("cat", "0", "5 3 25 13"), ("dog", "1", "1 1 9 9")],
    "b": [("dog", "0", "30 5 40 15"), ("cat", "1", "9 3 29 13"), ("ant", "1", "1 1 9 9")],
    "c": [("dog", "0", "30 5 40 15")],
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_voc(tmp_path / "voc", OBJECTS)
    write_sets(folder, train="a", val="b c", easy="c")
    return folder


@pytest.mark.parametrize("absolute", [False, True])
def test_convert_writes_the_list(command, source, tmp_path, absolute):
    """Those of valid; an ant that is only difficult is no class."""
    options = ("--offset", "0", *(["--absolute"] if absolute else []))
    out = tmp_path / "o"
    assert command.run("convert", "voc", source, out, *options).code == 0
    root = f"{out}/" if absolute else ""
    assert f"difficult = {root}difficult.txt\n" in (out / "o.data").read_text()
    listed = [f"{root}difficult/b.jpg", f"{root}difficult/c.jpg"]
    assert (out / "difficult.txt").read_text().split() == listed
    assert sorted(p.name for p in (out / "difficult").iterdir()) == ["b.txt", "c.txt"]
    data = sources.load(out / "o.data")
    items = sources.items(data, "valid")
    assert data.names == ("cat", "dog")
    assert labels(out, "b.jpg") == [[1, 0.875, 0.5, 0.25, 0.5]]
    assert items.difficult(0, 2).tolist() == [[0, *np.float32([0.475, 0.4, 0.5, 0.5])]]
    assert items.difficult(1, 2).shape == (0, 5)


@pytest.mark.parametrize(
    "options",
    [("--difficult", "keep"), ("--names", "only_dogs"), ("--valid", "easy")],
    ids=" ".join,
)
def test_no_list_where_none_is_difficult(command, source, tmp_path, monkeypatch, options):
    """Nor is one left from before."""
    monkeypatch.chdir(tmp_path)
    Path("only_dogs").write_text("dog\n")
    for more in ((), ("--force", *options)):
        assert command.run("convert", "voc", source, "o", *more).code == 0
        assert ("difficult" in Path("o/o.data").read_text()) == (not more)
        assert Path("o/difficult").exists() == Path("o/difficult.txt").exists() == (not more)


def test_the_numbers_of_darknet(command, shared, tmp_path):
    """`darknet detector map` of AlexeyAB on this converted data set, its images as PNG files.

    Without the list of the 38 difficult objects it says 0.463909.
    """
    names = shared / "data/voc100/voc.names"
    command.run("convert", "voc", shared / "data/voc100", tmp_path / "o", "--names", names)
    model = shared / "data/models/yolo-lite-voc"
    network, _ = load_model(f"{model}.cfg", f"{model}.weights")
    loader = evaluation_loader(sources.load(tmp_path / "o" / "o.data"), network.cfg, workers=0)
    assert evaluate(network, loader, points=11).map == pytest.approx(0.467719, abs=1e-4)
