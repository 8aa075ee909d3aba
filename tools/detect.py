"""Detect objects in pictures, videos or from a camera; write pictures with boxes, and JSON."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.command import Parser, check_outputs, listed, run

from yolo.errors import DarknetError
from yolo.inference.engines import RUNNERS, open_runner

if TYPE_CHECKING:
    from yolo.datasets.images import Pixels
    from yolo.inference.detector import Detector
    from yolo.inference.runner import Runner
    from yolo.inference.sources import Source

WRITTEN = (".jpg", ".jpeg", ".png")  # the kinds of pictures that keep their kind


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        epilog="A source that can't be read is named and left out. "
        "Exit codes: 0 done, 2 wrong input, or nothing could be read.",
    )
    parser.add_argument(
        "source",
        nargs="+",
        metavar="SOURCE",
        help="a picture, a video, a folder of them, a .txt list, or the number of a camera",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--cfg", help="the network; .pt and .onnx files bring their own")
    model.add_argument("--weights", required=True, help=".weights, .pt or .onnx")
    names = model.add_mutually_exclusive_group()
    names.add_argument("--names", metavar="FILE", help="the names of the classes, one a line")
    names.add_argument("--data", metavar="FILE", help="a .data or .yaml file that has them")
    model.add_argument("--engine", choices=RUNNERS, help=f"what computes: {listed(RUNNERS)}")
    model.add_argument("--device", help="cpu, cuda, cuda:1 …; default: a GPU if there is one")
    rules = parser.add_argument_group("rules")
    rules.add_argument("--thresh", type=float, default=0.25, metavar="T", help="least confidence")
    rules.add_argument(
        "--nms",
        type=float,
        metavar="T",
        help="one object overlaps by more than that; default: what the head says, or 0.45",
    )
    rules.add_argument(
        "--letterbox",
        action=argparse.BooleanOptionalAction,
        help="keep the proportions of pictures; default: as [net] letter_box says",
    )
    rules.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="of a video or a camera, at most; Ctrl-C ends a camera",
    )
    out = parser.add_argument_group("output")
    out.add_argument("--out", default="detections", metavar="DIR", help="for the pictures")
    out.add_argument("--json", metavar="FILE", help="write what was found there")
    return parser.parse_intermixed_args()  # sources may stand between options


def main() -> int:
    args = arguments()
    _check(args)
    if args.json:
        check_outputs([Path(args.json)], [args.cfg, args.weights, args.names, args.data])
    from yolo.errors import DataError
    from yolo.files import write_file
    from yolo.inference.sources import find_sources

    sources = find_sources(args.source)
    work = _work(args)
    for source in sources:
        try:
            line = _video(work, source) if source.is_video else _picture(work, source)
        except DataError as error:
            print(f"left out: {error}", file=sys.stderr)
        else:
            print(line, flush=True)
    if not work.entries:
        raise DarknetError("nothing could be read")
    if args.json:
        write_file(args.json, (json.dumps(work.entries, indent=2) + "\n").encode())
    return 0


@dataclass
class Work:
    """State shared by all sources, and the detections so far."""

    args: argparse.Namespace
    detector: Detector
    names: tuple[str, ...]
    entries: list[dict[str, Any]] = field(default_factory=list)
    outputs: set[Path] = field(default_factory=set)

    @property
    def channels(self) -> int:
        return self.detector.network.image.channels

    def output(self, source: Source) -> Path:
        """Where the result of a source goes: beside those of the same name, not over them."""
        name = Path(f"camera{source.path}" if source.is_camera else source.path)
        kind = name.suffix.lower() if name.suffix.lower() in WRITTEN else ".jpg"
        kind = ".mp4" if source.is_video else kind
        numbered = (f"{name.stem}-{n}" for n in itertools.count(2))
        stems = itertools.chain([name.stem], numbered)
        paths = (Path(self.args.out) / f"{stem}{kind}" for stem in stems)
        path = next(path for path in paths if path not in self.outputs)
        check_outputs([path], [source.path])
        self.outputs.add(path)
        return path

    def detect(self, source: Source, image: Pixels, frame: int | None = None) -> Pixels:
        """Find and remember what is in a picture; the picture with boxes, RGB."""
        from yolo.inference.detector import described
        from yolo.inference.drawing import draw

        detections = self.detector(image)
        height, width = image.shape[:2]
        objects = described(detections, self.names, width, height)
        entry = {"file": source.path, "frame": frame, "width": width, "height": height}
        self.entries.append(entry | {"objects": objects})
        return draw(image if image.shape[2] == 3 else image.repeat(3, 2), detections, self.names)


def _check(args: argparse.Namespace) -> None:
    for name in ("thresh", "nms"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise DarknetError(f"--{name} {value:g}: expected a number from 0 to 1")
    if args.frames is not None and args.frames < 1:
        raise DarknetError(f"--frames {args.frames}: expected at least 1")


def _work(args: argparse.Namespace) -> Work:
    from yolo.inference.detector import Detector

    runner = open_runner(args.cfg, args.weights, args.engine, args.device)
    names = _names(args, runner)
    detector = Detector(runner, thresh=args.thresh, nms_thresh=args.nms, letterbox=args.letterbox)
    return Work(args, detector, names)


def _names(args: argparse.Namespace, runner: Runner) -> tuple[str, ...]:
    from yolo.datasets.names import check_names, class_names
    from yolo.detections import box_classes

    classes, path = box_classes(runner.network), runner.network.cfg.path
    names = class_names(args.data, args.names, classes, path)
    if not names and runner.names:
        check_names(runner.names, classes, path, path)
    return names or runner.names or tuple(f"class {number}" for number in range(classes))


def _picture(work: Work, source: Source) -> str:
    """Work on a picture; says in one line what is on it."""
    import cv2

    from yolo.datasets.images import read_image
    from yolo.files import write_file

    image = read_image(source.path, work.channels)
    output = work.output(source)
    started = time.perf_counter()
    drawn = work.detect(source, image)
    passed = 1000 * (time.perf_counter() - started)
    _, content = cv2.imencode(output.suffix, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    write_file(output, content.tobytes())
    counts = Counter(detection["name"] for detection in work.entries[-1]["objects"])
    words = ", ".join(f"{name} ×{count}" for name, count in counts.items()) or "nothing"
    return f"{source.path}: {words} ({passed:.0f} ms) → {output}"


def _video(work: Work, source: Source) -> str:
    """Work on a video, frame by frame; says in one line what is in it."""
    from tqdm import tqdm

    from yolo.inference.video import Video, VideoFile

    video = Video(source, work.channels)
    limit = work.args.frames
    total = limit if video.count is None else min(video.count, limit or video.count)
    output = work.output(source)
    first = len(work.entries)
    # Ctrl-C is how a camera ends
    ends = contextlib.suppress(KeyboardInterrupt) if source.is_camera else contextlib.nullcontext()
    bar = tqdm(video, total=total, unit=" frames", leave=False, disable=not sys.stderr.isatty())
    with VideoFile(output, video.rate) as written, ends:
        for number, frame in enumerate(itertools.islice(bar, limit)):
            written.write(work.detect(source, frame, number))
    entries = work.entries[first:]
    objects = sum(len(entry["objects"]) for entry in entries)
    return f"{source.path}: {objects} objects in {len(entries)} frames → {output}"


if __name__ == "__main__":
    run(main)
