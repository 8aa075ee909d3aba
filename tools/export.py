"""Turn a .pt checkpoint into cfg and weights for Darknet, or those into a .pt."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.command import Parser, check_outputs, listed, run

from yolo.errors import DarknetError
from yolo.export.formats import FORMATS

KINDS = {(".pt", ".weights"), (".weights", ".pt")}


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("source", metavar="IN", help="a .pt, or a .weights with --cfg")
    parser.add_argument(
        "target", metavar="OUT", help="a .weights (its .cfg is written beside it), or a .pt"
    )
    parser.add_argument("--cfg", help="the network of a .weights file")
    parser.add_argument(
        "--engine", choices=FORMATS, help=f"in a form for an engine. {listed(FORMATS)}"
    )
    return parser.parse_args()


def _check_kinds(engine: str | None, source: Path, target: Path) -> None:
    """Raises DarknetError for a file that can't be made of another."""
    if engine:
        suffix, sources = FORMATS[engine].suffix, {".pt", ".weights"}
        if target.suffix != suffix:
            raise DarknetError(f"{target}: --engine {engine} reads {suffix}")
        if source.suffix not in sources:
            raise DarknetError(f"{source} to {target}: expected .pt or .weights to {suffix}")
    elif (source.suffix, target.suffix) not in KINDS:
        raise DarknetError(f"{source} to {target}: expected .pt to .weights, or .weights to .pt")


def main() -> int:
    args = arguments()
    source, target = Path(args.source), Path(args.target)
    _check_kinds(args.engine, source, target)
    if source.suffix == ".weights" and not args.cfg:
        raise DarknetError(f"{source}: --cfg is needed to read weights")
    from yolo.files import Writer, content_writer, write_files
    from yolo.models.checkpoint import Checkpoint, checkpoint_writer
    from yolo.models.load import load_model
    from yolo.models.weights import weights_writer

    network, header = load_model(args.cfg, args.source)
    cfg = network.cfg.to_bytes()
    writers: list[tuple[Path, Writer]]
    if args.engine:
        writers = FORMATS[args.engine].load()(network, header, target)
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
