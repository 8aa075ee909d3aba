"""The page and the model card of prune.py --report: what they say, and that it is true."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from command_line import CommandLine, Ended
from good_model import check_refused, content, here
from jobs import prune as prune_job
from pruned_files import ours
from tiny_data import BAYESIAN, BODY, DETECTOR, make_detection_data

from pruning.registry import DOCUMENTS
from pruning.run.documents.card import card, escaped, fenced
from pruning.run.documents.facts import Facts
from pruning.run.documents.page import page
from pruning.run.documents.pictures import MOST, found_again
from pruning.run.documents.words import short, tiles, warnings
from yolo.cfg import Cfg
from yolo.detections import Detections
from yolo.models.randomize import randomize
from yolo.models.weights import save_weights
from yolo.network import Network

__all__ = ["here"]  # a fixture
EVIL = '<script>alert("x")</script>&|*`'
CALLED = "<b>&x"  # of files
CELLS = "td", "th", "p", "pre", "code", "h1", "figcaption"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a tiny detector and its data; names want to be escaped."""
    monkeypatch.chdir(tmp_path)
    make_detection_data(tmp_path, valid=10)
    Path("x.names").write_text(f"{EVIL}\nblue\n")
    Path(f"{CALLED}.cfg").write_text(DETECTOR)
    network = Network(Cfg.load(f"{CALLED}.cfg"))
    randomize(network)
    save_weights(network, f"{CALLED}.weights")
    return tmp_path


QUICK = "--verify", "torch", "--runs", "0"  # the last of equal options counts
FULL = "--verify", "torch,opencv", "--runs", "1"
MODEL = "--cfg", f"{CALLED}.cfg", "--weights", f"{CALLED}.weights"


def report(command: CommandLine, *options: object, to: str = "report.html") -> str:
    """The text of a document about half of the tiny detector."""
    words = *MODEL, "--strategy", "shortcut", "--out", "out", "--name", f"cut{CALLED}"
    ended = command.run("prune", *words, *QUICK, "--report", to, *options)
    assert (ended.code, ended.err) == (0, ""), ended.err
    assert f"\nReport: {to}\n" in ended.out
    return Path(to).read_text()


class Page(HTMLParser):
    """A page's text, and its tags with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag in CELLS:
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag in CELLS:
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells and not {"style", "svg"} & set(self.open):
            self.cells[-1] += data


def check_alone(page: Page) -> None:
    """Nothing runs, and nothing is fetched."""
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "base"}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert "url(" not in (attributes.get("style") or "")


def test_the_page_says_all_and_needs_nothing_else(command: CommandLine, model: Path) -> None:
    text = report(command, "--data", "x.data", "--json", "x.json", *FULL)
    page, data = Page(text), json.loads(Path("x.json").read_text())
    assert not page.open
    check_alone(page)
    assert "@import" not in text
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    said = " ".join(page.cells)
    for side in ("before", "after"):
        assert f"{data[side]['parameters']:,}" in page.cells
        assert f"{data[side]['macs']:,}" in page.cells
        assert f"{data[side]['map']:.4f}" in page.cells
    assert f"{data['proof']['masked']:.1e}" in page.cells
    for name, value in data["proof"].items():
        if isinstance(value, float):
            assert f"{value:.1e}" in page.cells, name
    assert EVIL in page.cells  # a class, shown and not run
    assert f"cut{CALLED}" in page.cells
    assert "--strategy shortcut --out out" in said
    assert "tools/test.py" in said
    bars = [attributes for tag, attributes in page.tags if tag == "rect"]
    channels = sum("channels" in (a.get("aria-label") or "") for t, a in page.tags if t == "svg")
    assert channels == 1
    assert len(bars) == 2 * 4 + 2 * len(data["sections_ms"]["sections"])


def test_the_files_have_the_sums_that_it_says(command: CommandLine, model: Path) -> None:
    for to in ("report.html", "report.md"):
        text = report(command, to=to)
        for path in (f"{CALLED}.cfg", f"{CALLED}.weights", *map(str, Path("out").iterdir())):
            assert hashlib.sha256(Path(path).read_bytes()).hexdigest() in text, path


@pytest.mark.parametrize(("option", "count"), [("--data", MOST), ("--calibrate", MOST)])
def test_own_pictures_side_by_side(
    command: CommandLine, model: Path, option: str, count: int
) -> None:
    page = Page(report(command, option, "x.data"))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2 * count
    assert all((a["src"] or "").startswith("data:image/jpeg;base64,/9j/") for a in pictures)
    assert {(a["width"], a["height"]) for a in pictures} == {
        ("120", "90")
    }  # 40x30, and three times as large
    assert sum("found" in cell for cell in page.cells if ".png" in cell) == count


def test_a_plan_is_one_of_the_files(command: CommandLine, model: Path) -> None:
    report(command, "--percent", 0.3, "--save-plan", "p.json")
    words = *MODEL, *QUICK, "--out", "out", "--plan", "p.json", "--report", "x.md"
    ended = command.run("prune", *words)
    assert ended.code == 0, ended.err
    text = Path("x.md").read_text()
    assert "percent 0.3" in text
    assert hashlib.sha256(Path("p.json").read_bytes()).hexdigest() in text
    assert "| plan | plan |" not in text


def test_without_images_there_are_no_pictures(command: CommandLine, model: Path) -> None:
    page = Page(report(command))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert "Class by class" not in " ".join(page.cells)


def test_the_card_says_the_same(command: CommandLine, model: Path) -> None:
    text = report(command, "--data", "x.data", "--json", "x.json", to="card.md")
    data = json.loads(Path("x.json").read_text())
    assert text.startswith(f"# cut{escaped(CALLED)}\n")
    for side in ("before", "after"):
        assert f" {data[side]['macs']:,} " in text
    assert f"| {data['proof']['masked']:.1e} |" in text
    assert escaped(EVIL) in text
    assert "<script>" not in text
    assert "base64" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    for part in text.split("\n\n"):
        lines = [re.sub(r"\\.", "", line).count("|") for line in part.splitlines()]
        assert len(set(lines)) == 1 or not part.startswith("|")


def test_a_comparison_is_shown(command: CommandLine, model: Path) -> None:
    words = *MODEL, "--data", "x.data", "--targets", "macs=0.8,macs=0.6", "--runs", 0
    ended = command.run("compare", *words, "--strategies", "shortcut", "--importances", "bn")
    assert ended.code == 0, ended.err
    page = Page(report(command, "--data", "x.data"))  # compared/compare.json is found
    assert sum(tag == "polyline" for tag, _ in page.tags) == 1
    assert "shortcut, bn, fold" in page.cells
    assert "polyline" not in report(command)  # by other images it compares nothing here
    Path("compared").rename("elsewhere")
    assert "polyline" not in report(command, "--data", "x.data")
    given = "--comparison", "elsewhere/compare.json"
    assert "polyline" in report(command, "--data", "x.data", *given)
    text = report(command, "--data", "x.data", *given, to="x.md")
    assert "| shortcut | bn | fold |" in text
    wrong = prune(command, *given, "--report", "y.html")
    check_refused(
        wrong, "elsewhere/compare.json: compares no cuts of this model by the same images"
    )
    assert not Path("y.html").exists()


def prune(command: CommandLine, *options: object) -> Ended:
    return command.run("prune", *MODEL, *QUICK, "--out", "o", *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--report", "x.pdf"), "--report x.pdf: expected a file that ends with .html or .md"),
        (("--report", "x"), "--report x: expected a file that ends with .html or .md"),
        (("--report", "x.html", "--dry-run"), "--report can't be combined with --dry-run"),
        (("--comparison", "x.json"), "--comparison x.json: is for --report"),
        (("--report", "x.html", "--comparison", "no.json"), "no.json: can't read the comparison"),
        (("--report", "x.html", "--steps", "2"), "--report can't be combined with --steps"),
        (("--report", "no.html/x.html"), "no.html is not a directory"),
    ],
)
def test_documents_that_cannot_be(
    command: CommandLine, here: Path, options: Sequence[str], message: str
) -> None:
    Path("no.html").write_text("")
    before = content(here)
    model = "--cfg", "x.cfg", "--weights", "x.weights"
    check_refused(command.run("prune", *model, "--out", "out", *options), message)
    assert content(here) == before


def test_a_picture_that_cannot_be_read_is_left_out(command: CommandLine, model: Path) -> None:
    """So does the evaluation, whose score stands beside them."""
    Path("images/valid9.png").write_bytes(b"no picture")
    page = Page(report(command, "--data", "x.data"))
    assert sum(tag == "img" for tag, _ in page.tags) == 2 * (MOST - 1)
    assert not [cell for cell in page.cells if "valid9" in cell]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_classifiers_and_blocks_have_documents(
    command: CommandLine, model: Path, name: str
) -> None:
    text = DETECTOR[: DETECTOR.index("[convolutional]")] + BODY + "[avgpool]\n[softmax]\n"
    Path(f"{CALLED}.cfg").write_text(text)
    network = Network(Cfg.load(f"{CALLED}.cfg"))
    randomize(network)
    save_weights(network, f"{CALLED}.weights")
    found = report(command, "--strategy", "layer", "--blocks", 1, to=f"x.{name}")
    assert "Blocks that are gone" in found
    assert "<img" not in found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_in_other_formats_are_there_with_their_proof(
    command: CommandLine, model: Path, name: str
) -> None:
    pytest.importorskip("onnxruntime")
    text = report(command, "--export", "onnx", to=f"x.{name}")
    content = Path(f"out/cut{CALLED}.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() in text
    assert "onnx computes what the model does, to " in text


def test_a_bayesian_cut(command: CommandLine, model: Path) -> None:
    """Thresholds say how far it goes, not a percent."""
    Path("b.cfg").write_text(BAYESIAN)
    words = "--cfg", "b.cfg", "--weights", "random", "--strategy", "bayesian", *QUICK
    ended = command.run("prune", *words, "--out", "out", "--report", "x.md")
    assert ended.code == 0, ended.err
    text = Path("x.md").read_text()
    assert "\nb.cfg, cut by strategy bayesian, keeps " in text
    assert "| thresholds | auto |" in text


def with_times(facts: Facts, before: dict[str, float | None], after: dict[str, float | None]):
    sides = {"before": before, "after": after}
    timed = {name: replace(getattr(facts.report, name), ms=times) for name, times in sides.items()}
    return replace(facts, report=replace(facts.report, **timed))


def test_every_engine_has_a_tile_and_slower_ones_a_warning(tmp_path: Path) -> None:
    """Whatever engines there are; those that measured only one side are left out."""
    job = ours("digits", 160, tmp_path).job("shortcut", 0.3)
    facts = Facts.of(prune_job(job), job.inputs, "x", [], [])
    assert [tile.what for tile in tiles(facts)] == ["MACs", "parameters", "bytes of weights"]
    assert warnings(facts) == []
    times = {"abacus": 10.0, "quill": 4.0, "chalk": None, "slate": 1.0}
    timed = with_times(facts, times, {"abacus": 15.0, "quill": 2.0, "chalk": 3.0, "slate": None})
    found = {tile.what: tile for tile in tiles(timed)[3:]}
    assert {what: (t.value, t.worse) for what, t in found.items()} == {
        "time in abacus": ("150%", True),
        "time in quill": ("50%", False),
    }
    (warning,) = warnings(timed)
    assert warning.startswith("Slower in abacus: 10.0 ms before, 15.0 ms after. ")
    for name, text in (("html", page(timed).decode()), ("md", card(timed).decode())):
        assert text.index("Slower in abacus") < text.index("Proof"), name


def test_objects_that_are_found_again() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.1], [0.21, 0.2, 0.1, 0.1]])
    found = Detections(boxes, torch.tensor([0, 1, 1]), torch.tensor([0.9, 0.8, 0.7]))
    assert found_again(found, found) == 3
    assert found_again(found, found.part(torch.tensor([0, 1]))) == 2  # none counts twice
    other = Detections(boxes, torch.tensor([1, 0, 0]), found.confidences)
    assert found_again(found, other) == 0
    assert found_again(found, found.part(torch.tensor([], dtype=torch.long))) == 0
    moved = Detections(boxes + torch.tensor([0.3, 0, 0, 0]), found.classes, found.confidences)
    assert found_again(found, moved) == 0


def test_what_folds_leave_is_no_test_that_passed(command: CommandLine, model: Path) -> None:
    page = Page(report(command))
    marked = [cell for cell in page.cells if cell.startswith("✓")]
    assert marked == ["✓ compact against masked network"]
    assert "left by inexact folds" in page.cells
    assert any("; 1 comparison passed before it was written." in cell for cell in page.cells)
    page = Page(report(command, "--verify", "none"))
    assert not [cell for cell in page.cells if cell.startswith("✓")]
    assert any("; no comparison was made before" in cell for cell in page.cells)


def test_numbers_in_short() -> None:
    assert [short(n) for n in (12, 1500, 65_174_400, 3.3e10)] == ["12", "1.5 k", "65.2 M", "33 G"]


def test_code_may_hold_fences() -> None:
    assert fenced("a ``` b") == "````\na ``` b\n````"
    assert escaped("a\n|b") == "a \\|b"
