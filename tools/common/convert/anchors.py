"""convert.py anchors: k-means on the boxes of a data set."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from common.command import size
from common.convert import Converter
from common.convert.progress import progress_bar
from yolo.datasets.formats.options import positive


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help=".data or .yaml file")
    parser.add_argument("--num", type=positive, default=6, help="of anchors")
    parser.add_argument(
        "--size", type=size, required=True, metavar="WxH", help="of the network's input"
    )


def _run(args: Namespace) -> int:
    from yolo.datasets.anchors import box_sizes, fit_anchors  # not for --help: they decode images

    anchors = fit_anchors(box_sizes(args.data, args.size, progress_bar), args.num)
    print("anchors=" + ",".join(f"{value:.0f}" for pair in anchors.sizes for value in pair))
    print(f"{anchors.boxes:,} boxes, mean IoU with the best anchor {anchors.mean_iou:.4f}")
    return 0


CONVERTER = Converter(_add_options, _run)
