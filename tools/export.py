"""Write a model as another file: .onnx for today's engines, .weights for Darknet, .pt to train."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from common.command import Parser, check_outputs, listed, run, size
from common.exported import integer_files, proven_files, with_names

from yolo.errors import DarknetError
from yolo.export.formats import FORMATS, Format
from yolo.export.options import BOXES, INT8, LAYOUTS

if TYPE_CHECKING:
    from yolo.export.options import OnnxOptions
    from yolo.files import Writer
    from yolo.models.weights import Header
    from yolo.network import Network

KINDS = {(".pt", ".weights"), (".weights", ".pt")}
MODELS = (".pt", ".weights")
OUTPUTS = ("boxes", "layout", "batch", "thresh", "names", "data", "license")
PRECISIONS = ("calibrate", "half", "int8", "map_drop")


def arguments() -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        epilog="An .onnx file is first compared with the model in onnxruntime. "
        "Exit codes: 0 done, 1 proof failed, 2 wrong input.",
    )
    parser.add_argument("source", metavar="IN", help="a .pt, or a .weights with --cfg")
    parser.add_argument(
        "target", metavar="OUT", help="an .onnx, a .weights (its .cfg is written beside it), a .pt"
    )
    parser.add_argument("--cfg", help="the network of a .weights file")
    parser.add_argument("--size", type=size, metavar="WxH", help="of the input; default: [net]'s")
    parser.add_argument(
        "--engine",
        choices=FORMATS,
        metavar="NAME",
        help=f"in a form for an engine. {listed(FORMATS)}",
    )
    onnx = parser.add_argument_group("of .onnx files")
    onnx.add_argument("--boxes", choices=BOXES, help=f"default: decoded; {listed(BOXES)}")
    onnx.add_argument(
        "--layout",
        choices=LAYOUTS,
        metavar="NAME",
        help=f"of decoded boxes, default: darknet; {listed(LAYOUTS)}",
    )
    onnx.add_argument("--batch", metavar="N", help="images at once, or dynamic; default: 1")
    onnx.add_argument("--thresh", type=float, metavar="T", help="of nms; default: 0.25")
    names = onnx.add_mutually_exclusive_group()
    names.add_argument("--names", metavar="FILE", help="the names of the classes, one a line")
    names.add_argument("--data", metavar="FILE", help="a .data or .yaml file that has them")
    onnx.add_argument(
        "--calibrate",
        metavar="IMAGES",
        help="pictures for --int8 and the proof, default: noise",
    )
    precision = onnx.add_mutually_exclusive_group()
    precision.add_argument("--half", action="store_true", default=None, help="in float16")
    precision.add_argument(
        "--int8",
        action="store_true",
        default=None,
        help="in 8-bit integers",
    )
    onnx.add_argument(
        "--map-drop",
        type=float,
        metavar="D",
        help="--int8 leaves sections in floats until mAP on --data falls by no more",
    )
    onnx.add_argument("--license", metavar="TEXT", help="of the model, for the metadata")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    source, target = Path(args.source), Path(args.target)
    chosen = _format(args.engine, source, target)
    if source.suffix == ".weights" and not args.cfg:
        raise DarknetError(f"{source}: --cfg is needed to read weights")
    options = _options(args, chosen)
    check_outputs([target], [args.source, args.cfg])
    from yolo.files import write_files
    from yolo.models.load import load_model

    network, header = load_model(args.cfg, args.source)
    network = network.resized(*args.size) if args.size else network
    proof = ""
    if chosen and options:
        options = with_names(options, network, args.data, args.names)
        if options.precision == INT8:
            writers, proof = integer_files(
                network, header, target, options, args.calibrate, args.data, args.map_drop
            )
        else:
            writers, proof = proven_files(chosen, network, header, target, options, args.calibrate)
    elif chosen:
        writers = chosen.load()(network, header, target)
    else:
        writers = _plain(network, header, target)
    written = [path for path, _ in writers]
    check_outputs(written, [args.source, args.cfg])
    write_files(writers)
    print(f"Written: {', '.join(map(str, written))}{f': {proof}' if proof else ''}")
    return 0


def _format(engine: str | None, source: Path, target: Path) -> Format | None:
    """The export format, None for .weights and .pt; raises DarknetError for what can't be made."""
    chosen = FORMATS[engine] if engine else None
    if not chosen and target.suffix not in MODELS:
        chosen = next((f for f in FORMATS.values() if f.suffix == target.suffix), None)
    if not chosen:
        if (source.suffix, target.suffix) not in KINDS:
            others = sorted({f.suffix for f in FORMATS.values()} - set(MODELS))
            raise DarknetError(
                f"{source} to {target}: expected .pt to .weights, .weights to .pt, "
                f"or one of them to {' or '.join(others)}"
            )
        return None
    if target.suffix != chosen.suffix:
        raise DarknetError(f"{target}: --engine {chosen.name} reads {chosen.suffix}")
    if source.suffix not in MODELS:
        raise DarknetError(f"{source} to {target}: expected .pt or .weights to {chosen.suffix}")
    return chosen


def _options(args: argparse.Namespace, chosen: Format | None) -> OnnxOptions | None:
    """The options of an .onnx file; raises DarknetError where it has no effect."""
    from yolo.export.options import DECODED, NMS, OnnxOptions

    if not (chosen and chosen.has_options):
        for name in OUTPUTS + PRECISIONS:
            if getattr(args, name) is not None:
                raise DarknetError(f"--{name.replace('_', '-')}: only .onnx files have that")
        return None
    precision = _precision(args, chosen)
    boxes = args.boxes or DECODED
    if args.layout and boxes != DECODED:
        raise DarknetError(f"--layout {args.layout}: only --boxes {DECODED} has layouts")
    if args.thresh is not None and boxes != NMS:
        raise DarknetError(f"--thresh {args.thresh:g}: only --boxes {NMS} has a threshold")
    if args.thresh is not None and not 0 <= args.thresh < 1:
        raise DarknetError(f"--thresh {args.thresh:g}: expected at least 0, below 1")
    batch = _batch(args.batch)
    defaults = OnnxOptions()
    return OnnxOptions(
        boxes,
        args.layout or defaults.layout,
        batch,
        defaults.thresh if args.thresh is None else args.thresh,
        license=args.license or "",
        precision=precision,
    )


def _precision(args: argparse.Namespace, chosen: Format) -> str:
    """That of --half and --int8; raises DarknetError where something is missing."""
    from yolo.export.options import FLOAT, HALF, INT8

    if not args.int8 and args.map_drop is not None:
        raise DarknetError(f"--map-drop {args.map_drop:g}: only --int8 has that")
    if not (args.half or args.int8):
        return FLOAT
    if chosen.suffix != ".onnx":
        raise DarknetError(f"--{'half' if args.half else 'int8'}: only .onnx files have that")
    if args.half:
        return HALF
    if not args.calibrate:
        raise DarknetError("--int8 needs images: --calibrate FOLDER, pictures like those to come")
    if args.map_drop is not None and not args.data:
        raise DarknetError(f"--map-drop {args.map_drop:g}: needs labeled images: --data FILE")
    if args.map_drop is not None and not 0 <= args.map_drop < 1:
        raise DarknetError(f"--map-drop {args.map_drop:g}: expected at least 0, below 1")
    return INT8


def _batch(text: str | None) -> int | None:
    """`dynamic` → None"""
    if text == "dynamic":
        return None
    if text is not None and not (text.isdecimal() and int(text)):
        raise DarknetError(f"--batch {text}: expected a whole number from 1, or dynamic")
    return int(text or 1)


def _plain(network: Network, header: Header, target: Path) -> list[tuple[Path, Writer]]:
    """The writers of a .pt, or of a .weights with its .cfg."""
    from yolo.files import content_writer
    from yolo.models.checkpoint import Checkpoint, checkpoint_writer
    from yolo.models.weights import weights_writer

    if target.suffix == ".pt":
        return [(target, checkpoint_writer(Checkpoint(network.cfg, network.state(), header)))]
    cfg = content_writer(network.cfg.to_bytes())
    return [(target, weights_writer(network, header)), (target.with_suffix(".cfg"), cfg)]


if __name__ == "__main__":
    run(main)
