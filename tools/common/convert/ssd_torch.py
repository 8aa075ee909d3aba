"""convert.py ssd-torch: SSD of PyTorch as .cfg and .weights."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from common.command import check_outputs
from common.convert import Converter
from yolo.errors import DarknetError

SSD_CFG = Path(__file__).resolve().parents[3] / "cfg" / "ssd300-vgg16-voc.cfg"


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="with the names of amdegroot/ssd.pytorch")
    parser.add_argument("out", metavar="OUT", help="a .weights; its .cfg is written beside it")
    parser.add_argument("--cfg", default=str(SSD_CFG), help=f"the network; default: {SSD_CFG.name}")
    parser.add_argument(
        "--channels",
        choices=("rgb", "bgr"),
        default="rgb",
        help="what FILE was trained with: rgb by that project (the default), bgr by Caffe, such as "
        "ssd_300_VOC0712.pth",
    )


def _run(args: Namespace) -> int:
    from yolo.cfg import Cfg
    from yolo.files import Writer, content_writer, write_files

    cfg, out = Cfg.load(args.cfg), Path(args.out)
    if out.suffix != ".weights":
        raise DarknetError(f"{out}: expected a name that ends in .weights")
    beside = out.with_suffix(".cfg")
    is_input = beside.exists() and beside.samefile(args.cfg)
    check_outputs([out] if is_input else [out, beside], [args.file, args.cfg])
    from yolo.models.foreign.ssd_torch import read_ssd  # with torch, which --help doesn't wait for
    from yolo.models.weights import Header, weights_writer

    ssd = read_ssd(args.file, cfg, bgr=args.channels == "bgr")
    content = ssd.cfg.to_bytes()
    writers: list[tuple[Path, Writer]] = [(out, weights_writer(ssd.network, Header()))]
    if not is_input:
        writers.append((beside, content_writer(content)))
    elif content != cfg.to_bytes():
        raise DarknetError(
            f"{args.file}: has other classes than {beside}, or other prior boxes (clip=2): "
            "write to another place"
        )
    write_files(writers)
    count = len(ssd.network.layers)
    part = f", the first {count} sections (--cutoff {count})" if ssd.is_backbone else ""
    print(f"Written: {', '.join(str(path) for path, _ in writers)}{part}, from {args.channels}")
    return 0


CONVERTER = Converter(_add_options, _run)
