"""Prune a Darknet model: cfg and weights in, smaller cfg and weights out, with a proof."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import Parser, Steps, check_outputs, listed, run
from common.document import add_document_arguments, check_document, comparison_of, document
from common.exported import EXPORTS, export_path, exported_files
from common.gradual import add_step_arguments, finetuning_of, prune_in_steps
from common.spec import (
    add_image_arguments,
    add_model_arguments,
    add_spec_arguments,
    check_images,
    inputs_of,
    spec_of,
    stem_of,
)

from pruning.registry import ENGINES, PROOFS, TIMED
from yolo.errors import DarknetError

if TYPE_CHECKING:
    from pruning.proof.verify import Proofs
    from pruning.run.prune import Result
    from yolo.files import Writer

    Exported = tuple[list[tuple[Path, Writer]], str]

EVERYDAY = {
    "cfg": "the network",
    "weights": "its .weights file, or a .pt of train.py",
    "strategy": "normal spares what shortcuts couple, shortcut cuts everything, slim keeps a share "
    "of every layer, regular rounds to powers of two, layer removes whole blocks (--help-all)",
    "target": "what may be left, as in macs=0.5 or params=0.3,ms=12: shares of the original or "
    "numbers; map-drop=0.01 cuts as far as mAP allows",
    "percent": "share of the channels to cut instead; default: 0.5",
    "ms_engine": "engine that it shall be fast in, and that ms are of: opencv, onnxruntime, torch",
    "calibrate": "pictures without labels, a folder or a list: keeps much more accuracy",
    "data": "a .data or .yaml file: shows mAP before and after",
    "steps": "cut and fine-tune N times in turns, for --finetune-epochs each",
    "finetune_epochs": "epochs after each cut; default: 10",
    "plan": "apply a saved plan instead",
    "export": "write an .onnx file, too: what onnxruntime, OpenCV 5 and TensorRT read",
    "save_plan": "write the plan, to look at it or change it",
    "dry_run": "show the plan, write no model",
    "darknet": "prove with this Darknet library or program, too",
    "figures": "draw what is kept, and how long it takes",
    "report": "a page about the cut, report.html, or a model card, report.md",
    "out": "folder of the results; default: pruned",
    "name": "name of the results without suffix",
}


def parser() -> Parser:
    result = Parser(
        description=__doc__,
        everyday=EVERYDAY,
        example="python tools/prune.py --cfg my.cfg --weights my.weights --strategy shortcut\n"
        "         --target macs=0.5 --calibrate photos/ --data my.data",
        epilog="Exit codes: 0 done, 1 a proof failed, 2 wrong input, 130 interrupted. Sections are "
        "counted as Darknet does: the first behind [net] is 0; tools/info.py lists them.",
    )
    add_model_arguments(result)
    add_spec_arguments(result)
    add_image_arguments(result.add_argument_group("images"))
    checks = result.add_argument_group("proofs and latencies")
    checks.add_argument(
        "--verify",
        metavar="LIST",
        help=f"proofs to make, or none; default: all that can be made; {listed(PROOFS)}",
    )
    for name, engine in ENGINES.items():
        if engine.path:
            checks.add_argument(f"--{name}", metavar="PATH", help=engine.path)
    checks.add_argument(
        "--runs", type=int, default=5, metavar="N", help="runs to measure latencies in, 0: none"
    )
    checks.add_argument(
        "--ms-engine",
        choices=TIMED,
        help=f"engine of --target ms=… and of the widths that --round auto chooses: {listed(TIMED)}"
        "; default: opencv where that runs the network, else torch",
    )
    checks.add_argument(
        "--latencies",
        metavar="FILE",
        help="latencies of sections on this machine, for --target ms=…: used and added to; "
        "default: darknet-pruning/latencies.json in ~/.cache",
    )
    add_step_arguments(result)
    _add_outputs(result.add_argument_group("output"))
    return result


def _add_outputs(out: argparse._ArgumentGroup) -> None:
    out.add_argument("--out", default="pruned", metavar="DIR", help="for the files")
    out.add_argument(
        "--name",
        metavar="STEM",
        help="of the files; default: CFG-STRATEGY and the amount, with what ranks where that is "
        "given",
    )
    out.add_argument(
        "--export",
        choices=EXPORTS,
        help="write the result in this format, too, and prove it; half and int8 are ONNX in "
        "float16 and, with --calibrate, in 8-bit integers; export.py has more options",
    )
    out.add_argument("--save-plan", metavar="FILE", help="write the plan")
    out.add_argument("--json", metavar="FILE", help="write the report there, too")
    out.add_argument(
        "--figures",
        metavar="DIR",
        help="draw what is kept of every section and its latency, and the scores that decided",
    )
    add_document_arguments(out)
    out.add_argument("--dry-run", action="store_true", help="show the plan, write no model")


def main() -> int:
    args = parser().parse_args()
    check_images(args)
    check_document(args)
    if args.runs < 0:
        raise DarknetError(f"--runs {args.runs}: expected at least 0")
    verify = _names(args.verify)
    spec = spec_of(args)
    finetuning = finetuning_of(args)
    if args.export and (finetuning or args.dry_run):
        other = "--steps" if finetuning else "--dry-run"
        raise DarknetError(f"--export {args.export} has no effect with {other}: use export.py")
    if args.export == "int8" and not args.calibrate:
        raise DarknetError("--export int8 needs --calibrate IMAGES")
    steps = Steps()
    steps("starting")
    folder, stem = Path(args.out), args.name or stem_of(args, spec)
    if finetuning:
        return prune_in_steps(args, spec, _proofs(args, verify), finetuning, stem, steps)
    outputs = _outputs(args, folder, stem)
    from pruning.run.prune import prune
    from yolo.files import content_writer, write_files

    try:
        proofs = _proofs(args, () if args.dry_run else verify)
        runs = 0 if args.dry_run else args.runs
        inputs = inputs_of(args)
        comparison = comparison_of(args, inputs)
        result = prune(inputs, spec, proofs, runs, steps)
        exported, proof = _exported(result, args, folder / stem, steps)
        sentence = f"{exported[0][0].name} {proof}" if exported else ""
        writers = [] if args.dry_run else [*result.writers(folder, stem), *exported]
        extra = _extra(result, outputs, args, folder, stem)
        if args.report:
            made = document(result, inputs, args, folder / stem, writers, comparison, sentence)
            extra[outputs["document"]] = made
        write_files([*writers, *((path, content_writer(text)) for path, text in extra.items())])
    finally:
        steps.close()
    _print(result, args, folder / stem)
    if proof:
        print(f"Written: {', '.join(str(path) for path, _ in exported)}: {proof}")
    return 0


def _exported(result: Result, args: argparse.Namespace, stem: Path, steps: Steps) -> Exported:
    """The files of --export beside the result, and what their proof says."""
    if not args.export:
        return [], ""
    steps(f"exporting {args.export}")
    network = result.cut.network
    return exported_files(args.export, network, result.header, stem, args.calibrate, args.data)


def _print(result: Result, args: argparse.Namespace, stem: Path) -> None:
    from yolo.models.load import is_random

    print(result.report.tables(proof=not args.dry_run))
    if is_random(args.weights):
        print("The weights are random: this shows what a cut saves, not what it keeps.")
    if args.dry_run:
        print("Dry run: no model is written.")
    else:
        print(f"Written: {stem}.cfg, .weights and .json")
    if args.report:
        print(f"Report: {args.report}")


def _proofs(args: argparse.Namespace, names: tuple[str, ...] | None) -> Proofs:
    from pruning.proof.verify import Proofs

    paths = {name: getattr(args, name) for name, engine in ENGINES.items() if engine.path}
    return Proofs(names, {name: path for name, path in paths.items() if path})


def _outputs(args: argparse.Namespace, folder: Path, stem: str) -> dict[str, Path]:
    """Files beside the result's three; what can't be written is reported before the work."""
    from yolo.files import check_writable

    extra = {"plan": args.save_plan, "report": None if args.dry_run else args.json}
    extra["document"] = args.report
    outputs = {kind: Path(path) for kind, path in extra.items() if path}
    if args.figures:
        outputs["channels"] = Path(args.figures) / f"{stem}-channels.png"
        outputs["scores"] = Path(args.figures) / f"{stem}-scores.png"
        if args.runs and not args.dry_run:
            outputs["latency"] = Path(args.figures) / f"{stem}-latency.png"
    kinds = () if args.dry_run else ("cfg", "weights", "json")
    if args.export:
        outputs["export"] = export_path(args.export, folder / stem)
    result = [folder / f"{stem}.{kind}" for kind in kinds]
    if args.scan:
        check_writable(Path(args.scan))
        outputs["scan"] = Path(args.scan).with_suffix(".png")
    kept = [Path(path) for path in (args.latencies, args.scan) if path]
    inputs = [args.cfg, args.weights, args.plan, args.data, args.comparison]
    check_outputs([*result, *outputs.values(), *kept], inputs)
    return outputs


def _extra(
    result: Result, outputs: dict[str, Path], args: argparse.Namespace, folder: Path, stem: str
) -> dict[Path, bytes]:
    """The files that were asked for beside the model, but for a document."""
    from pruning.run.prune import result_files

    makers: dict[str, Callable[[], bytes]] = {
        "plan": lambda: result.cut.plan.to_json().encode(),
        "report": lambda: result.report.to_json(result_files(folder, stem)).encode(),
        **(_pictures(result, args) if args.figures or args.scan else {}),
    }
    contents = {path: makers[kind]() for kind, path in outputs.items() if kind in makers}
    if args.figures:
        contents |= _histograms(result, Path(args.figures), stem)
    return contents


def _pictures(result: Result, args: argparse.Namespace) -> dict[str, Callable[[], bytes]]:
    """The pictures of a result by the names of _outputs; not those that would be empty."""
    from pruning.run import figures
    from pruning.selection.sensitivity import Scan
    from yolo.figures import png

    cut, report = result.cut, result.report
    ranked, scan = cut.ranked, Scan.load(Path(args.scan)) if args.scan else None
    pictures: dict[str, Callable[[], bytes]] = {
        "channels": lambda: png(figures.kept_channels(cut.shortened, report)),
        "latency": lambda: png(figures.section_latencies(report)),
    }
    if ranked and ranked.drawable:
        pictures["scores"] = lambda: png(figures.ranked_scores(ranked, cut.fold, report))
    if scan:
        title = Path(args.cfg or args.weights).stem
        pictures["scan"] = lambda: png(figures.sensitivities(scan, title))
    return pictures


def _histograms(result: Result, folder: Path, stem: str) -> dict[Path, bytes]:
    """A page of the groups of all Bayesian sections, and a picture of each; else nothing."""
    posterior = result.cut.posterior
    if not posterior:
        return {}
    from pruning.bayesian.figures import histogram, overview
    from yolo.figures import png

    drawn = posterior.panels()
    pages = {folder / f"{stem}-groups.png": png(overview(drawn))}
    for index, (title, values, threshold) in zip(posterior.log_alphas, drawn, strict=True):
        pages[folder / f"{stem}-groups-{index}.png"] = png(histogram(values, threshold, title))
    return pages


def _names(text: str | None) -> tuple[str, ...] | None:
    """torch,opencv → ("torch", "opencv"); none → (); None for all that can be made."""
    if text is None:
        return None
    names = () if text == "none" else tuple(text.split(","))
    for name in names:
        if name not in PROOFS:
            expected = f"some of {','.join(PROOFS)}, or none"
            raise DarknetError(f"--verify {text}: expected {expected}")
    return names


if __name__ == "__main__":
    run(main)
