"""Run every cfg by every strategy, and keep what comes of it: before and after a change of code.

`python tools/bench/guard.py run ROOT FILE` runs the commands of a checkout and writes exit codes,
sha256 of what they write and the numbers of their reports; `compare BEFORE AFTER` tells where two
such files differ. Times are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

QUICK = ("digits", "yolo-fastest-1.1", "yolov4-tiny", "ssd-lite", "ssd-fastest", "enet-coco")
RESIDUAL = ("resnet18", "resnet34", "resnet50", "yolov3", "yolo-fastest-1.1", "csresnext50")
STRATEGIES = ("normal", "regular", "shortcut", "tiny", "slim")
IMPORTANCES = ("l1", "l2", "fpgm", "lamp", "bn-next", "random")
BARE = ["--verify", "none", "--runs", "0"]
# names that mean the same in reports of an older form
RENAMED = {
    "params": "parameters",
    "weights_bytes": "bytes",
    "masked_vs_compact": "masked",
    "fold_difference": "fold",
    "witnesses": "held_out",
}
TIMES = {"seconds", "latency_ms", "ms", "whole_ms", "original_ms", "sections_ms", "files", "notes"}
TIMES |= {"cfg", "weights", "schema", "kind", "metric", "engine", "format", "text", "note"}

Case = tuple[str, str, list[str]]  # name, command, arguments


def pruning(name: str, *words: str) -> Case:
    return name, "prune", [*words, "--out", "out", "--name", "m", "--save-plan", "out/plan.json"]


def cases(root: Path, data: Path) -> Iterator[list[Case]]:
    """Groups of commands; those of a group run in one folder, one after the other."""
    for cfg in sorted((root / "cfg").glob("*.cfg")):
        model = ["--cfg", f"{root}/cfg/{cfg.name}", "--weights", "random:1", *BARE]
        for strategy in STRATEGIES:
            name = f"{cfg.stem} {strategy}"
            yield [pruning(name, *model, "--strategy", strategy)]
        for words in (
            "--strategy shortcut --target macs=0.5",
            "--strategy normal --target params=0.6,bytes=0.9",
            "--strategy slim --percent 0.4 --compare layer",
            "--strategy shortcut --compare isomorphic --percent 0.3 --round 8",
            "--strategy shortcut --fold exact --percent 0.3",
            "--strategy shortcut --fold mean --percent 0.3",
            "--strategy shortcut --recover none --percent 0.3",
        ):
            yield [pruning(f"{cfg.stem} {words}", *model, *words.split())]
        yield [
            ("info " + cfg.stem, "info", ["--cfg", f"{root}/cfg/{cfg.name}", "--json", "o.json"])
        ]
    for stem in QUICK:
        model = ["--cfg", f"{root}/cfg/{stem}.cfg", "--weights", "random:2", "--runs", "0"]
        for importance in IMPORTANCES:
            ranked = ["--strategy", "shortcut", "--percent", "0.4", "--importance", importance]
            yield [pruning(f"{stem} {importance}", *model, "--verify", "none", *ranked)]
        for text in (
            "--strategy normal",
            "--strategy shortcut --percent 0.6",
            "--strategy shortcut --per-mac --percent 0.3 --keep-min 3",
            "--strategy shortcut --group mean --layer-keep 0.3",
            "--strategy slim --group max --spare 1,2",
            "--strategy shortcut --only 1 --percent 0.5",
            "--strategy shortcut --target channels=0.6,macs=0.7,params=0.9",
        ):
            proven = [*model, "--verify", "torch,opencv", *text.split()]
            yield [pruning(f"{stem} proven {text}", *proven)]
        saved = ["--strategy", "shortcut", "--percent", "0.3"]
        yield [
            pruning(f"{stem} saves a plan", *model, *BARE, *saved),
            (f"{stem} applies a plan", "prune", [*model, *BARE, "--plan", "out/plan.json"]),
            (f"{stem} dry run", "prune", [*model, *BARE, *saved, "--dry-run"]),
        ]
    for stem in RESIDUAL:
        cfg = next((root / "cfg").glob(f"{stem}*.cfg"))
        model = ["--cfg", str(cfg), "--weights", "random:3", "--runs", "0", "--verify", "torch"]
        for words in (
            "--strategy layer --blocks 2",
            "--strategy layer --target macs=0.8",
            "--strategy slim+layer --blocks 1 --percent 0.3",
            "--strategy slim+layer --blocks 2 --target macs=0.6",
            "--strategy layer --blocks 99",
        ):
            group = [pruning(f"{stem} {words}", *model, *words.split())]
            if words.startswith("slim"):
                plan = ["--plan", "out/plan.json", "--name", "again"]
                group.append((f"{stem} {words}, its plan", "prune", [*model, *plan]))
            yield group
    yield from digits(root)
    yield from real(root, data)
    yield from bayesian(root, data)
    yield from wrong(root)


def digits(root: Path) -> Iterator[list[Case]]:
    """The sample: made, evaluated, cut, scanned, compared, trained."""
    model = ["--cfg", f"{root}/cfg/digits.cfg", "--weights", f"{root}/weights/digits.weights"]
    sample: Case = ("sample", "convert", ["sample", "data"])
    data = ["--data", "data/digits.data"]
    evaluated = [*model, *data, "--runs", "0", "--verify", "torch,opencv"]
    images = ["--calibrate", "data/digits.data", "--calibration-images", "16"]
    yield [
        sample,
        ("digits mAP", "test", [*model, *data, "--json", "o.json"]),
        ("digits AP", "test", [*model, *data, "--coco", "--json", "p.json"]),
        pruning("digits judged", *evaluated, "--strategy", "shortcut"),
        pruning(
            "digits images", *evaluated, "--strategy", "shortcut", "--target", "macs=0.5", *images
        ),
        pruning("digits drop", *evaluated, "--strategy", "normal", "--target", "map-drop=0.05"),
        pruning("digits bn", *evaluated, *images, "--recover", "bn", "--strategy", "shortcut"),
        pruning("digits taylor", *evaluated, *images, "--importance", "taylor"),
        pruning("digits activation", *evaluated, *images, "--importance", "activation"),
    ]
    scan = [*model, *BARE, "--strategy", "shortcut", "--scan", "scan.json", "--target", "macs=0.6"]
    yield [
        sample,
        pruning("digits scan", *scan),
        pruning(
            "digits scan, images", *scan[:-4], "--scan", "other.json", "--percent", "0.3", *images
        ),
    ]
    compare = [*model, "--targets", "macs=0.8,macs=0.5", "--strategies", "normal,shortcut,slim"]
    compare += ["--importances", "bn,least-squares", "--runs", "0", "--out", "compared"]
    yield [sample, ("digits compare", "compare", [*compare, *images])]
    steps = [*model, "--data", "data/digits.data", "--strategy", "shortcut", "--runs", "0"]
    steps += ["--target", "macs=0.5", "--steps", "2", "--finetune-epochs", "1", "--verify", "torch"]
    steps += ["--finetune", "--batch 32 --workers 1 --threads 1", "--out", "out", "--name", "m"]
    yield [sample, ("digits steps", "prune", steps)]
    train = ["--data", "data/digits.data", "--epochs", "1", "--batch", "32", "--workers", "1"]
    train += ["--threads", "1", "--out", "run", "--name", "m"]
    for name, words in {
        "train fresh": ["--cfg", f"{root}/cfg/digits.cfg"],
        "train sparse": [*model, "-sr", "--strength", "0.05", "--strategy", "shortcut"],
        "train teacher": ["--cfg", f"{root}/cfg/digits.cfg", "--teacher", model[1], model[3]],
    }.items():
        yield [sample, (f"digits {name}", "train", [*train, *words])]
    yield [
        ("digits to pt", "export", [model[3], "m.pt", "--cfg", model[1]]),
        ("digits from pt", "export", ["m.pt", "back.weights"]),
        ("digits bayesian cfg", "convert", ["bayesian", model[1], "b.cfg"]),
        ("digits classes", "convert", ["classes", model[1], "c.cfg", "--num", "3"]),
    ]


def real(root: Path, data: Path) -> Iterator[list[Case]]:
    """Trained models, calibrated and evaluated on photographs, where they are there."""
    coco, voc, models = data / "coco128", data / "voc100", data / "models"
    text = f"classes=80\nvalid={coco}/valid.txt\ntrain={coco}/valid.txt\nnames={coco}/coco.names\n"
    for cfg in sorted(models.glob("*.cfg")):
        model = ["--cfg", str(cfg), "--weights", str(cfg.with_suffix(".weights")), "--runs", "0"]
        images = ["--calibrate", str(voc / "images"), "--calibration-images", "16"]
        for words in (
            ["--strategy", "shortcut", "--target", "macs=0.5", *images],
            ["--strategy", "normal", "--percent", "0.3", "--verify", "opencv,torch"],
            ["--strategy", "slim", "--target", "params=0.6", *images, "--recover", "bn"],
        ):
            yield [pruning(f"{cfg.stem} real {' '.join(words[:4])}", *model, *words)]
        if "coco" in cfg.stem:
            evaluated = ["--data", "!coco.data", "--strategy", "shortcut", "--target", "macs=0.7"]
            yield [
                (f"write {text}", "write", ["coco.data"]),
                pruning(f"{cfg.stem} coco128", *model, *evaluated, *images),
            ]


def bayesian(root: Path, data: Path) -> Iterator[list[Case]]:
    """A Bayesian training on MNIST, and its cuts, where the images are there."""
    if not (data / "mnist").exists():
        return
    train = ["--cfg", f"{root}/cfg/lenet-5-bayesian.cfg", "--data", "data/mnist.data"]
    train += ["--epochs", "1", "--workers", "1", "--threads", "1", "--batch", "500"]
    weights = ["--weights", "run/last.pt", "--runs", "0", "--data", "data/mnist.data"]
    yield [
        ("mnist", "convert", ["mnist", str(data / "mnist"), "data", "--name", "mnist"]),
        ("bayesian train", "train", [*train, "--out", "run", "--name", "m"]),
        pruning("bayesian auto", *weights, "--strategy", "bayesian"),
        pruning("bayesian -8", *weights, "--strategy", "bayesian", "--thresholds", "-4"),
        pruning(
            "bayesian reduced", *weights, "--strategy", "bayesian", "--reduced", "--spare", "0"
        ),
        pruning(
            "bayesian signal",
            *weights,
            "--strategy",
            "normal",
            "--importance",
            "signal",
            "--target",
            "params=0.25",
        ),
    ]


def wrong(root: Path) -> Iterator[list[Case]]:
    """Refused commands: only the exit code counts."""
    model = ["--cfg", f"{root}/cfg/digits.cfg", "--weights", f"{root}/weights/digits.weights"]
    for words in (
        "--percent 1.5",
        "--percent 0.999",
        "--target macs=0.00001",
        "--target macs=2",
        "--target what=0.5",
        "--target macs=0.5,macs=0.4",
        "--strategy layer --percent 0.5",
        "--strategy slim+layer --percent 0.5",
        "--strategy bayesian",
        "--strategy normal --blocks 2",
        "--strategy normal --thresholds auto",
        "--reduced",
        "--importance taylor",
        "--importance signal",
        "--importance sensitivity",
        "--recover reconstruct",
        "--target map-drop=0.1",
        "--only 999",
        "--spare 1",
        "--keep-min 0",
        "--layer-keep 3",
        "--round x",
        "--verify nothing",
        "--plan nowhere.json",
        "--data nowhere.data",
        "--calibrate nowhere",
        "--steps 2",
        "--finetune x",
        "--seed -1 --importance random",
        "--points 11",
    ):
        yield [(f"refused {words}", "prune", [*model, *BARE, *words.split()])]


def run(args: argparse.Namespace) -> None:
    root, data = Path(args.root).resolve(), Path(args.data).resolve()
    groups = [g for g in cases(root, data) if any(args.only in name for name, _, _ in g)]
    parts = [groups[n :: args.jobs] for n in range(args.jobs)]
    children = []
    folder = Path(tempfile.mkdtemp())
    for number, part in enumerate(parts):
        work, out = folder / f"groups-{number}.json", folder / f"found-{number}.json"
        work.write_text(json.dumps(part))
        command = [sys.executable, __file__, "child", str(root), str(work), str(out)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        children.append((subprocess.Popen(command, env=environment), out))
    results: dict[str, Any] = {}
    for child, out in children:
        if child.wait():
            sys.exit(f"a part of the guard ended with {child.returncode}")
        results |= json.loads(out.read_text())
    shutil.rmtree(folder)
    Path(args.file).write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
    print(f"{len(results)} commands of {root.name}")


def child(args: argparse.Namespace) -> None:
    root, results = Path(args.root), {}
    sys.path.insert(0, str(root / "tools"))
    for number, group in enumerate(json.loads(Path(args.work).read_text())):
        with tempfile.TemporaryDirectory() as name:
            os.chdir(name)
            for case, command, words in group:
                before = stamps(Path(name))
                code = invoked(root, command, words, case)
                after = [p for p, stamp in stamps(Path(name)).items() if before.get(p) != stamp]
                results[case] = {"exit": code, **contents(sorted(after), Path(name))}
            os.chdir("/")
        print(number, group[-1][0], results[group[-1][0]]["exit"], file=sys.stderr, flush=True)
    Path(args.out).write_text(json.dumps(results))


def stamps(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def invoked(root: Path, command: str, words: list[str], case: str) -> int:
    """The exit code of a command, in this process: torch is imported only once."""
    if command == "write":
        Path(words[0]).write_text(case.removeprefix("write "))
        return 0
    words = [word.removeprefix("!") for word in words]
    sys.argv = [command, *words]
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            runpy.run_path(str(root / "tools" / f"{command}.py"), run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except Exception:
        traceback.print_exc(file=output)
        code = 99
    else:
        code = 0
    if code not in (0, 2) or (code and "refused" not in case):
        print(case, code, output.getvalue()[-400:], file=sys.stderr, flush=True)
    return code


def contents(paths: list[Path], folder: Path) -> dict[str, Any]:
    """sha256 of models, the content of plans, the numbers of reports and tables."""
    files, numbers = {}, {}
    for path in paths:
        name, data = str(path.relative_to(folder)), path.read_bytes()
        if name.startswith("data/") and path.suffix in (".png", ".jpg", ".txt"):
            continue
        if path.suffix in (".cfg", ".weights", ".names", ".data"):
            files[name] = hashlib.sha256(data).hexdigest()
        elif path.suffix == ".pt":
            files[name] = tensors(path)
        elif path.name == "plan.json":
            plan = json.loads(data)
            kept = {key: plan.get(key) for key in ("keep", "mean", "blocks")}
            files[name] = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
        elif path.suffix == ".json" and path.name != "steps.json":
            numbers[name] = dict(flat(json.loads(data)))
        elif path.suffix == ".csv":
            rows = csv.DictReader(io.StringIO(data.decode()))
            numbers[name] = dict(flat([dict(row) for row in rows]))
    return {"files": files, "numbers": numbers}


def tensors(path: Path) -> str:
    import torch

    content = torch.load(path, weights_only=True)
    hasher = hashlib.sha256(content["cfg"].encode())
    for name, tensor in sorted(content["tensors"].items()):
        hasher.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return hasher.hexdigest()


def flat(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers and texts of nested JSON by their paths."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in TIMES:
                yield from flat(part, f"{at}.{RENAMED.get(key, key)}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from flat(part, f"{at}.{number}")
    else:
        with contextlib.suppress(TypeError, ValueError):
            value = float(value)
        yield at, value


def compare(args: argparse.Namespace) -> None:
    before, after = (json.loads(Path(name).read_text()) for name in (args.before, args.after))
    shared = before.keys() & after.keys()
    different = 0
    for case in sorted(shared):
        lines = [
            f"{part}{key}: {old[key]} → {new[key]}"
            for part, old, new in parted(before[case], after[case])
            for key in old.keys() & new.keys()
            if plain(old[key]) != plain(new[key]) and not SKIPPED & {*key.split(".")}
        ]
        changed = [
            f"{part}{key} is {'gone' if key in old else 'new'}"
            for part, old, new in parted(before[case], after[case])
            for key in old.keys() ^ new.keys()
        ]
        if lines or (changed and args.strict):
            different += 1
            print(case, *(lines + changed)[:6], sep="\n    ")
    files = sum(len(before[case].get("files", {})) for case in shared)
    numbers = sum(len(n) for case in shared for n in before[case].get("numbers", {}).values())
    print(
        f"{len(shared)} commands, {files} files, {numbers} numbers compared, {different} commands "
        f"differ; {len(before.keys() ^ after.keys())} are in one of the files only"
    )
    sys.exit(bool(different))


SKIPPED = {"images_per_second", "key"}


def plain(value: Any) -> Any:
    """A value without what may be written in two ways."""
    return value.replace("params=", "parameters=") or None if isinstance(value, str) else value


def parted(old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    yield "", {"exit": old["exit"]}, {"exit": new["exit"]}
    yield "", old.get("files", {}), new.get("files", {})
    for name in old.get("numbers", {}).keys() | new.get("numbers", {}).keys():
        yield name, old.get("numbers", {}).get(name, {}), new.get("numbers", {}).get(name, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("run")
    verb.add_argument("root")
    verb.add_argument("file")
    verb.add_argument("--data", default="../shared/data")
    verb.add_argument("--only", default="", help="commands whose names contain this")
    verb.add_argument("--jobs", type=int, default=2)
    verb.set_defaults(do=run)
    verb = verbs.add_parser("child")
    for name in ("root", "work", "out"):
        verb.add_argument(name)
    verb.set_defaults(do=child)
    verb = verbs.add_parser("compare")
    verb.add_argument("before")
    verb.add_argument("after")
    verb.add_argument("--strict", action="store_true", help="numbers that only one has count, too")
    verb.set_defaults(do=compare)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
