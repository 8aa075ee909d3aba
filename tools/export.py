"""Turn a .pt checkpoint into cfg and weights for Darknet, or those into a .pt."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.command import Parser, check_outputs, run

from yolo.errors import DarknetError

KINDS = {(".pt", ".weights"), (".weights", ".pt")}


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("source", metavar="IN", help="a .pt, or a .weights with --cfg")
    parser.add_argument(
        "target", metavar="OUT", help="a .weights (its .cfg is written beside it), or a .pt"
    )
    parser.add_argument("--cfg", help="the network of a .weights file")
    parser.add_argument(
        "--engine",
        choices=("darknet", "opencv"),
        help="in sections that it knows: [ssd], [l2norm], image_mean= and image_scale= become "
        "others, or what OUT's .json says how to compute; AlexeyAB's Darknet, or OpenCV's DNN",
    )
    return parser.parse_args()


def main() -> int:
    args = arguments()
    source, target = Path(args.source), Path(args.target)
    kinds = source.suffix, target.suffix
    if kinds not in KINDS | ({(".weights", ".weights")} if args.engine else set()):
        raise DarknetError(
            f"{source} to {target}: expected .pt to .weights, or .weights to .pt"
            + (" or .weights" if args.engine else "")
        )
    if source.suffix == ".weights" and not args.cfg:
        raise DarknetError(f"{source}: --cfg is needed to read weights")
    if target.suffix == ".pt" and args.engine:
        raise DarknetError(f"{target}: --engine {args.engine} reads .weights")
    from yolo.export.deployment import Deployment
    from yolo.files import Writer, content_writer, write_files
    from yolo.models.checkpoint import Checkpoint, checkpoint_writer
    from yolo.models.load import load_model
    from yolo.models.weights import weights_writer

    network, header = load_model(args.cfg, args.source)
    cfg = network.cfg.to_bytes()
    writers: list[tuple[Path, Writer]]
    if args.engine:
        made = Deployment.of(network, args.engine, target.stem)
        writers = made.writers(target.parent, header)
    elif target.suffix == ".pt":
        checkpoint = Checkpoint(network.cfg, network.state(), header)
        writers = [(target, checkpoint_writer(checkpoint))]
    else:
        writers = [
            (target, weights_writer(network, header)),
            (target.with_suffix(".cfg"), content_writer(cfg)),
        ]
    written = [path for path, _ in writers]
    check_outputs(written, [args.source, args.cfg])
    write_files(writers)
    print(f"Written: {', '.join(map(str, written))}")
    return 0


if __name__ == "__main__":
    run(main)
