"""The whole way, from the files of a model to the files of a smaller one."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jobs import Job, prune
from pruned_files import FILES, Model, check_files, files, ours, real, written
from specs import CHANNEL_STRATEGIES
from trained_models import NAMES

from pruning.proof.engines import darknet
from pruning.proof.engines.base import EngineError
from pruning.registry import FOLDS, TIMED
from pruning.run.prune import Result
from pruning.run.verdict import LIMIT
from yolo.errors import PlanError

WITHOUT_SHORTCUTS = ("yolo-lite-coco", "yolo-lite-voc", "yolo-lite-voc-nobn")
CASES = [
    (name, strategy, percent)
    for name in NAMES
    for strategy in CHANNEL_STRATEGIES
    for percent in (0.3, 0.6)
    if strategy != "tiny" or name in WITHOUT_SHORTCUTS
]
# ours: a cfg, the smallest square input that it takes, strategy and percent
OURS = [
    ("csresnext50-panet-spp", 64, "shortcut", 0.3),
    ("darknet53", 64, "shortcut", 0.5),
    ("enet-coco", 64, "shortcut", 0.3),
    ("resnet18", 64, "shortcut", 0.5),
    ("resnet34", 64, "regular", 0.5),
    ("resnet50", 64, "normal", 0.5),
    ("vgg16", 32, "tiny", 0.5),
    ("yolo-fastest-1.1", 64, "shortcut", 0.6),
    ("yolov2-tiny", 64, "tiny", 0.6),
    ("yolov3", 64, "shortcut", 0.6),
    ("yolov3-spp", 64, "regular", 0.5),
    ("yolov3-tiny", 64, "regular", 0.6),
    ("yolov3-tiny", 64, "tiny", 0.6),
    ("yolov4", 64, "normal", 0.5),
    ("yolov4-csp", 64, "shortcut", 0.5),
    ("yolov4-tiny", 64, "normal", 0.5),
    ("yolov7-tiny", 64, "regular", 0.5),
]
# so deep that with made-up weights the rounding noise of two engines may exceed 1e-4
NOISY = ("csresnext50-panet-spp", "yolov4", "yolov4-csp")
COST = {
    "channels": int,
    "parameters": int,
    "macs": int,
    "macs_thop": int,
    "bytes": int,
    "map": type(None),
    "ms": dict,
}
LAYER = {"index": int, "section": str, "before": int, "after": int, "constants": str}


@pytest.fixture
def small(tmp_path: Path) -> Model:
    """A real model that is pruned in a moment."""
    return real("yoloface-50k")


def check_types(data: dict[str, object], types: dict[str, type]) -> None:
    assert data.keys() == types.keys()
    for key, kind in types.items():
        assert type(data[key]) is kind, key


def check_report(result: Result, job: Job) -> None:
    """The JSON report has the documented shape, and agrees with what was made."""
    data = json.loads(result.report.to_json(FILES))
    judged = data.pop("verdict", {"energy": 1.0, "limit": LIMIT, "text": ""})
    assert judged["energy"] >= judged["limit"] == LIMIT
    check_types(
        data,
        dict.fromkeys(("kind", "cfg", "weights", "strategy", "fold"), str)
        | dict.fromkeys(("before", "after", "proof", "files"), dict)
        | {"schema": int, "percent": float, "reached": float, "layers": list},
    )
    inputs, spec = job.inputs, job.spec
    asked = (inputs.cfg, inputs.weights, spec.strategy, spec.percent, spec.fold)
    assert tuple(data[k] for k in ("cfg", "weights", "strategy", "percent", "fold")) == asked
    for cost in (data["before"], data["after"]):
        check_types(cost, COST)
        assert cost["ms"].keys() == set(TIMED)
    assert {"masked", "opencv", "darknet"} <= data["proof"].keys()
    assert data["files"].keys() == {"cfg", "weights"}
    shapes = [layer.out_shape.channels for layer in result.cut.network.layers]
    for layer in data["layers"]:
        check_types(layer, LAYER)
        assert layer["after"] == shapes[layer["index"]] < layer["before"]
    assert data["after"]["parameters"] == result.cut.network.count_parameters()
    assert data["before"]["channels"] - data["after"]["channels"] == sum(
        layer["before"] - layer["after"] for layer in data["layers"]
    )


def check_proof(result: Result, *engines: str) -> None:
    proof = result.report.proof
    limit = 1e-9 if "float64" in proof.masked.note else 1e-5
    assert proof.masked.value <= limit
    for engine in engines:
        difference = proof.engines[engine]
        assert difference.value is not None, f"{engine}: {difference.note}"
        assert difference.value <= 1e-4


def share_cut(result: Result) -> float:
    """The share of the channels that could have been cut."""
    graph, shapes = (
        result.cut.graph,
        [layer.out_shape.channels for layer in result.cut.network.layers],
    )
    sections = {i for family in graph.families for i in family.sections}
    before = sum(family.cost * family.slots for family in graph.families)
    after = sum(shapes[i] for i in sections)
    return 1 - after / before


@pytest.mark.parametrize(("name", "strategy", "percent"), CASES)
def test_real_models(name: str, strategy: str, percent: float, tmp_path: Path) -> None:
    model = real(name)
    engines = ["opencv"]
    # the slowest engine has to run every model, but not every cut
    if strategy == "shortcut" and percent == 0.6 and darknet.DEBIAN.is_file():
        engines.append("darknet")
    job = model.job(strategy, percent, verify=("torch", *engines))
    result = written(job, tmp_path)
    check_proof(result, *engines)
    check_files(result, tmp_path)
    check_report(result, job)
    before, after = result.report.before, result.report.after
    assert after.macs_thop < before.macs_thop
    for key in ("channels", "parameters", "macs", "bytes"):
        assert getattr(after.cost, key) < getattr(before.cost, key), key


@pytest.mark.parametrize("percent", [0.3, 0.6])
@pytest.mark.parametrize("name", NAMES)
def test_the_exact_fold_equals_the_masked_model(name: str, percent: float) -> None:
    proof = prune(real(name).job("shortcut", percent, fold="exact")).report.proof
    assert proof.fold.value <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_what_is_out_of_reach_says_what_can_be_reached(name: str) -> None:
    model = real(name)
    for fold in ("auto", "exact"):
        with pytest.raises(PlanError, match="out of reach") as caught:
            prune(model.job("shortcut", 0.999, fold=fold))
        match = re.search(r"can cut (0\.\d+) \((\d+) of (\d+) channels\)", str(caught.value))
        assert match, caught.value
        most = float(match[1])
        assert abs(most - int(match[2]) / int(match[3])) <= 1e-3
        check_proof(prune(model.job("shortcut", most, fold=fold)))
        with pytest.raises(PlanError, match="out of reach"):
            prune(model.job("shortcut", min(most + 0.002, 0.9999), fold=fold))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_cut_is_nothing_changed(name: str, tmp_path: Path) -> None:
    model = real(name)
    result = written(model.job(percent=0.0, fold="exact"), tmp_path)
    assert (tmp_path / "x.cfg").read_bytes() == Path(model.cfg).read_bytes()
    assert (tmp_path / "x.weights").read_bytes() == Path(model.weights).read_bytes()
    assert not result.report.layers


@pytest.mark.parametrize(("name", "size", "strategy", "percent"), OURS)
def test_our_cfgs(name: str, size: int, strategy: str, percent: float, tmp_path: Path) -> None:
    job = ours(name, size, tmp_path).job(strategy, percent, verify=("torch", "opencv"))
    result = written(job, tmp_path)
    check_files(result, tmp_path)
    check_report(result, job)
    noise = re.search(r"by (\S+) on the original", result.report.proof.engines["opencv"].note)
    if name in NOISY and noise:
        check_proof(result)
        assert float(noise[1]) < 5e-4
    else:
        check_proof(result, "opencv")


@pytest.mark.parametrize("fold", FOLDS)
def test_a_saved_plan_is_the_same_cut(small: Model, fold: str, tmp_path: Path) -> None:
    first = written(small.job(percent=0.6, fold=fold), tmp_path / "first")
    first.cut.plan.save(tmp_path / "plan.json")
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["strategy"] == "shortcut"
    assert plan["percent"] == 0.6
    cut = {layer.index: layer.after for layer in first.report.layers}
    assert {int(section) for section in plan["keep"]} == set(cut)
    written(small.job(fold=fold, plan=str(tmp_path / "plan.json")), tmp_path / "again")
    assert files(tmp_path / "first") == files(tmp_path / "again")


@pytest.mark.parametrize("name", ["yoloface-50k", "yolo-lite-voc-nobn"])
def test_the_same_spec_gives_the_same_files(name: str, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        written(real(name).job("normal", 0.5), tmp_path / folder)
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("kept", [{"fold": "exact"}, {"recover": "none"}])
@pytest.mark.parametrize("multiple", [4, 8])
def test_round_counts_constant_channels_too(
    small: Model, multiple: int, kept: dict[str, str]
) -> None:
    result = prune(small.job(percent=0.6, round_to=multiple, **kept))
    assert result.report.layers
    assert {layer.after % multiple for layer in result.report.layers} == {0}


def test_regular_leaves_powers_of_two() -> None:
    result = prune(real("yolo-lite-coco").job("regular", 0.6))
    after = {layer.after for layer in result.report.layers}
    assert after <= {8, 16, 32, 64, 128, 256, 512}


def test_what_is_spared_stays(small: Model) -> None:
    everything = {layer.index for layer in prune(small.job()).report.layers}
    spared = min(everything)
    changed = {layer.index for layer in prune(small.job(spare=(spared,))).report.layers}
    assert changed
    assert spared not in changed


def test_only_what_is_named_is_cut(small: Model) -> None:
    result = prune(small.job())
    family = result.cut.graph.families[0]
    changes = prune(small.job(percent=0.4, only=(family.sections[0],))).report.layers
    assert {layer.index for layer in changes} == set(family.sections)


@pytest.mark.parametrize("least", [2, 5])
def test_every_layer_keeps_its_least(small: Model, least: int) -> None:
    layers = prune(small.job(percent=0.5, keep_min=least, recover="none")).report.layers
    assert min(layer.after for layer in layers) == least


@pytest.mark.parametrize("name", NAMES)
def test_the_percent_counts_channels(name: str) -> None:
    """Constant channels included: what is left is what was asked for, to within a layer."""
    result = prune(real(name).job("shortcut", 0.5, fold="exact", verify=()))
    assert abs(share_cut(result) - 0.5) < 0.02


def test_nothing_is_proven_on_request(small: Model) -> None:
    report = json.loads(prune(small.job(verify=())).report.to_json(FILES))
    proof = report["proof"]
    assert proof["masked"] is proof["opencv"] is proof["darknet"] is None
    assert report["before"]["ms"] == dict.fromkeys(TIMED)


@pytest.mark.parametrize("asked", [{"verify": ("torch", "darknet")}, {"darknet": "libdarknet.so"}])
def test_an_engine_that_is_asked_for_must_be_there(
    small: Model, asked: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name or by its path; the others are left out, and say why."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(darknet, "DEBIAN", tmp_path / "libdarknet.so")
    with pytest.raises(EngineError, match=r"no Darknet library found|no such file"):
        prune(small.job(**{"verify": None, **asked}))
    proof = prune(small.job(verify=None)).report.proof
    assert proof.engines["darknet"].value is None
    assert "no Darknet library found: install one" in proof.engines["darknet"].note
    unasked = prune(small.job(verify=("torch",))).report.proof
    assert unasked.engines["darknet"].note == "not run"


def test_latencies_are_measured_on_request(small: Model) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    report = json.loads(prune(small.job(verify=(), runs=2)).report.to_json(FILES))
    for cost in (report["before"], report["after"]):
        assert all(ms > 0 for ms in cost["ms"].values())
