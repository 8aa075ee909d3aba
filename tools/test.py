"""Evaluate a Darknet model: mAP as `darknet detector map` has it, or top-1 and top-k."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import Parser, check_outputs, listed, run, size

from yolo.errors import DarknetError
from yolo.evaluation.results import POINTS
from yolo.inference.engines import RUNNERS, open_runner

if TYPE_CHECKING:
    from yolo.datasets.evaluation import EvaluationLoader
    from yolo.evaluation.results import Evaluation
    from yolo.inference.runner import Runner


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        epilog="The same pixels give Darknet's numbers to six digits. Its builds without OpenCV "
        "decode JPEG files a little differently, which moves mAP by up to 0.003.",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--cfg", help="the network; .pt and .onnx files bring their own")
    model.add_argument("--weights", required=True, help=".weights, .pt or .onnx")
    model.add_argument("--size", type=size, metavar="WxH", help="of the input; default: [net]'s")
    model.add_argument("--engine", choices=RUNNERS, help=f"what computes: {listed(RUNNERS)}")
    model.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU if there is one")
    data = parser.add_argument_group("data")
    data.add_argument("--data", required=True, help="the images: a .data or .yaml file")
    data.add_argument("--split", choices=("train", "valid"), default="valid", help="which of them")
    data.add_argument(
        "--letterbox",
        action=argparse.BooleanOptionalAction,
        help="keep the proportions of images; default: as [net] letter_box says",
    )
    data.add_argument("--batch", type=int, default=8, metavar="N", help="images at once")
    data.add_argument("--workers", type=int, default=2, metavar="N", help="processes that read")
    rules = parser.add_argument_group("rules for detectors")
    rules.add_argument(
        "--iou-thresh", type=float, default=0.5, metavar="T", help="a match overlaps by more"
    )
    rules.add_argument(
        "--points",
        type=int,
        choices=POINTS,
        default=0,
        help="; ".join(f"{points}: {text}" for points, text in POINTS.items()),
    )
    rules.add_argument(
        "--conf-thresh",
        type=float,
        default=0.25,
        metavar="T",
        help="detections above it count for precision, recall, F1 and mean IoU",
    )
    rules.add_argument("--coco", action="store_true", help="COCO's AP@[.5:.95], too (pycocotools)")
    parser.add_argument("--json", metavar="FILE", help="write the results there, too")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    _check(args)
    if args.json:
        check_outputs([Path(args.json)], [args.cfg, args.weights, args.data])
    from yolo.datasets import sources
    from yolo.evaluation.evaluate import check_classes
    from yolo.evaluation.loader import evaluation_loader
    from yolo.files import write_file

    runner = open_runner(args.cfg, args.weights, args.engine, args.device, args.size)
    network, data = runner.network, sources.load(args.data)
    check_classes(network, data)
    loader = evaluation_loader(
        data, network.cfg, args.split, args.batch, args.workers, args.letterbox
    )
    evaluation = _evaluate(args, runner, loader)
    if args.json:
        content = {key: getattr(args, key) for key in ("cfg", "weights", "data", "split")}
        content |= evaluation.to_json() | {"skipped": loader.skipped}
        write_file(args.json, (json.dumps(content, indent=2) + "\n").encode())
    print(evaluation.table())
    for _, reason in loader.skipped:
        print(f"Left out: {reason}")
    return 0


def _check(args: argparse.Namespace) -> None:
    for name in ("iou_thresh", "conf_thresh"):
        if not 0 <= getattr(args, name) < 1:
            option = name.replace("_", "-")
            raise DarknetError(f"--{option} {getattr(args, name):g}: expected at least 0, below 1")
    for name, least in (("batch", 1), ("workers", 0)):
        if getattr(args, name) < least:
            raise DarknetError(f"--{name} {getattr(args, name)}: expected at least {least}")


def _evaluate(args: argparse.Namespace, runner: Runner, loader: EvaluationLoader) -> Evaluation:
    from tqdm import tqdm

    from yolo.evaluation.evaluate import evaluate

    with tqdm(
        total=len(loader.items), unit=" images", leave=False, disable=not sys.stderr.isatty()
    ) as bar:
        return evaluate(
            runner.network,
            loader,
            runner=runner,
            iou_thresh=args.iou_thresh,
            points=args.points,
            conf_thresh=args.conf_thresh,
            coco=args.coco,
            progress=bar.update,
        )


if __name__ == "__main__":
    run(main)
