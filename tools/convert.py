"""Make Darknet data sets of others: images/, labels/, train.txt, valid.txt, X.names, X.data."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.command import Help, Parser, Steps, check_outputs, listed, run, sections, size

from pruning.options import PRIORS
from yolo.errors import DarknetError

if TYPE_CHECKING:
    from yolo.datasets import sources
    from yolo.datasets.formats.layout import Place, Summary
    from yolo.datasets.formats.pictures import Dataset

Arguments = argparse.Namespace
EPILOG = (
    "DST appears whole or not at all; images are hard links where the file system has them "
    "(to change one in place changes the original, too). All "
    "paths are relative to the .data file and the lists, so DST can be moved; Darknet itself "
    "reads paths from the working directory: use --absolute for it. Boxes are clipped to their "
    "images; those without area are dropped; images that can't be read are skipped."
)
SHOWN = 10  # skipped images in the table


def voc(args: Arguments) -> Dataset:
    from yolo.datasets.formats import voc as form
    from yolo.datasets.formats.common import read_names

    options = form.VocOptions(
        args.train,
        args.valid,
        read_names(args.names) if args.names else None,
        args.difficult == "keep",
        args.offset,
        args.valid_share,
        args.seed,
    )
    return form.voc(Path(args.source), options, args.name)


def coco(args: Arguments) -> Dataset:
    from yolo.datasets.formats import coco as form

    source = Path(args.source)
    given = {"train": args.train, "valid": args.valid}
    splits = {split: Path(path) for split, path in given.items() if path}
    if len(splits) < 2:
        splits = {**form.find_instances(source), **splits}
    folders = tuple(Path(p) for p in (args.images, source) if p)
    found = form.CocoSource(splits, folders, args.polygons, args.valid_share, args.seed)
    return form.coco(found, args.name)


def hands(args: Arguments) -> Dataset:
    from yolo.datasets.formats import hands as form

    return form.hands(Path(args.source), args.valid, args.name)


def mnist(args: Arguments) -> Dataset:
    from yolo.datasets.formats import idx
    from yolo.datasets.formats.common import read_names

    names = read_names(args.names) if args.names else None
    return idx.mnist(Path(args.source), names, args.name)


def cifar10(args: Arguments) -> Dataset:
    from yolo.datasets.formats import cifar

    return cifar.cifar10(Path(args.source), args.name)


def sample(args: Arguments) -> Dataset:
    from yolo.datasets.formats import sample as form

    return form.sample({"train": args.train, "valid": args.valid}, args.seed)


def arguments() -> Arguments:
    parser = Parser(description=__doc__, formatter_class=Help, epilog=EPILOG)
    forms = parser.add_subparsers(dest="form", required=True, metavar="FORM")
    _voc_arguments(_add(forms, "voc", voc, "Pascal VOC: XML and ImageSets"))
    _coco_arguments(_add(forms, "coco", coco, "COCO's JSON of instances, in a folder or by itself"))
    form = _add(forms, "hands", hands, "the Oxford hand data set: .mat files, official split")
    form.add_argument(
        "--valid", choices=("test", "validation"), default="test", help="the part for valid.txt"
    )
    form = _add(forms, "mnist", mnist, "idx files, plain or gzipped, for a classifier")
    form.add_argument("--names", metavar="FILE", help="class names; default: digit0 to digit9")
    _add(forms, "cifar10", cifar10, "binary version, or SPLIT/CLASS/ images, in a folder or .tar")
    form = _add(forms, "sample", sample, "digits on photographs, made up: DST/digits.data", "DST")
    form.add_argument(
        "--train", type=_positive, default=600, metavar="N", help="scenes to train on"
    )
    form.add_argument("--valid", type=_positive, default=200, metavar="N", help="to validate on")
    form.add_argument("--seed", type=int, default=0, help="another seed, other scenes")
    _anchors_arguments(forms.add_parser("anchors", help=ANCHORS, description=ANCHORS))
    _classes_arguments(forms.add_parser("classes", help=CLASSES, description=CLASSES))
    _bayesian_arguments(forms.add_parser("bayesian", help=BAYESIAN, description=BAYESIAN))
    _ssd_torch_arguments(forms.add_parser("ssd-torch", help=SSD_TORCH, description=SSD_TORCH))
    return parser.parse_args()


def _add(
    forms: Any, name: str, read: Callable[[Arguments], Dataset], text: str, places: str = "SRC DST"
) -> Parser:
    """A sub-command that reads one form."""
    parser: Parser = forms.add_parser(
        name, help=text, description=f"{name}: {text}", formatter_class=Help, epilog=EPILOG
    )
    parser.set_defaults(read=read, source=None)
    if "SRC" in places:
        parser.add_argument("source", metavar="SRC", help="what is converted")
        parser.add_argument("--name", metavar="X", help="of X.data and X.names; default: DST's")
    parser.add_argument("destination", metavar="DST", help="the folder to make")
    parser.add_argument("--force", action="store_true", help="replace what was made here before")
    parser.add_argument(
        "--absolute",
        action="store_true",
        help="for Darknet itself: absolute paths, and labels beside the images, too",
    )
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON, too")
    return parser


def _voc_arguments(parser: Parser) -> None:
    default = "trainval and test; where there is no test, train and val"
    parser.add_argument(
        "--train", type=_sets, metavar="SETS", help=f"ImageSets; default: {default}"
    )
    parser.add_argument("--valid", type=_sets, metavar="SETS", help="such as val or val,test")
    parser.add_argument("--names", metavar="FILE", help="classes to keep; default: all, sorted")
    parser.add_argument(
        "--difficult",
        choices=("drop", "keep"),
        default="drop",
        help="objects marked difficult: drop, and list those of valid for mAP to ignore; or keep",
    )
    parser.add_argument(
        "--offset",
        type=float,
        default=1,
        help="pixels to move boxes left and up: 1 as Darknet's voc_label.py, 0: as they stand",
    )
    _split_arguments(parser, "there are no ImageSets")


def _coco_arguments(parser: Parser) -> None:
    parser.add_argument("--train", metavar="JSON", help="default: what SRC has")
    parser.add_argument("--valid", metavar="JSON", help="default: what SRC has")
    parser.add_argument("--images", metavar="DIR", help="where else images may be")
    parser.add_argument("--polygons", action="store_true", help="write polygons/, too")
    _split_arguments(parser, "one JSON is for both")


def _split_arguments(parser: Parser, where: str) -> None:
    parser.add_argument(
        "--valid-share",
        type=float,
        default=0,
        metavar="S",
        help=f"share of the images for valid where {where}; 0: all in both lists",
    )
    parser.add_argument("--seed", type=int, default=0, help="of that choice")


ANCHORS = "Fit anchors to the boxes of a data set's training images."


def _anchors_arguments(parser: Parser) -> None:
    parser.add_argument("data", metavar="DATA", help=".data or .yaml file")
    parser.add_argument("--num", type=_positive, default=6, help="of anchors")
    parser.add_argument(
        "--size", type=size, required=True, metavar="WxH", help="of the network's input"
    )


CLASSES = "Write a cfg for the classes of another data set: classes=, and filters= before heads."


def _classes_arguments(parser: Parser) -> None:
    parser.add_argument("cfg", metavar="CFG", help="the network")
    parser.add_argument("out", metavar="OUT", help="the cfg to write")
    count = parser.add_mutually_exclusive_group(required=True)
    count.add_argument("--data", metavar="DATA", help="a .data or .yaml file that names them")
    count.add_argument("--num", type=_positive, help="how many there are")


BAYESIAN = "Write a cfg whose convolutional and connected sections are Bayesian."


def _bayesian_arguments(parser: Parser) -> None:
    parser.add_argument("cfg", metavar="CFG", help="the network")
    parser.add_argument("out", metavar="OUT", help="the cfg to write")
    parser.add_argument(
        "--prior",
        choices=PRIORS,
        default="gnj",
        help=f"{listed(PRIORS)} (default: %(default)s)",
    )
    parser.add_argument("--spare", type=sections, default=(), metavar="I,J", help="leave these")


SSD_TORCH = "Make .weights of a PyTorch state dict of SSD300 on VGG-16, or of VGG-16 alone."
SSD_CFG = Path(__file__).resolve().parent.parent / "cfg" / "ssd300-vgg16-voc.cfg"


def _ssd_torch_arguments(parser: Parser) -> None:
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


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10**6:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive integer")
    return int(text)


def _sets(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def main() -> int:
    args = arguments()
    if args.form == "anchors":
        return _fit_anchors(args)
    if args.form == "classes":
        return _change_classes(args)
    if args.form == "bayesian":
        return _make_bayesian(args)
    if args.form == "ssd-torch":
        return _convert_ssd_torch(args)
    if args.json:
        check_outputs([Path(args.json)], [])
    from yolo.datasets.formats.layout import check_place, write
    from yolo.files import write_file

    place = _place(args)
    check_place(place, args.name, args.force)
    steps = Steps()
    steps(f"reading {args.source or 'the digits'}")
    try:
        dataset = args.read(args)
    finally:
        steps.close()
    summary = write(dataset, place, _progress)
    if args.json:
        write_file(Path(args.json), (json.dumps(_to_json(summary), indent=2) + "\n").encode())
    print(_table(summary))
    return 0


def _change_classes(args: Arguments) -> int:
    check_outputs([Path(args.out)], [args.cfg])
    from yolo.cfg import Cfg
    from yolo.models.classes import with_classes

    count = args.num or sources.load(args.data).classes
    with_classes(Cfg.load(args.cfg), count).write(args.out)
    print(f"Written: {args.out} for {count} classes")
    return 0


def _make_bayesian(args: Arguments) -> int:
    check_outputs([Path(args.out)], [args.cfg])
    from pruning.bayesian.convert import with_posteriors
    from yolo.cfg import Cfg

    given = Cfg.load(args.cfg)
    made = with_posteriors(given, args.prior, args.spare)
    made.write(args.out)
    count = sum(section.type.startswith("bayesian_") for section in made.layers)
    print(f"Written: {args.out} with {count} Bayesian sections")
    return 0


def _convert_ssd_torch(args: Arguments) -> int:
    from yolo.cfg import Cfg
    from yolo.files import Writer, content_writer, write_files

    cfg, out = Cfg.load(args.cfg), Path(args.out)
    if out.suffix != ".weights":
        raise DarknetError(f"{out}: expected a name that ends in .weights")
    beside = out.with_suffix(".cfg")
    is_there = beside.exists() and beside.samefile(args.cfg)
    check_outputs([out] if is_there else [out, beside], [args.file, args.cfg])
    from yolo.models.foreign.ssd_torch import read_ssd
    from yolo.models.weights import Header, weights_writer

    made = read_ssd(args.file, cfg, bgr=args.channels == "bgr")
    content = made.cfg.to_bytes()
    writers: list[tuple[Path, Writer]] = [(out, weights_writer(made.network, Header()))]
    if not is_there:
        writers.append((beside, content_writer(content)))
    elif content != cfg.to_bytes():
        raise DarknetError(
            f"{args.file}: has other classes than {beside}, or other prior boxes (clip=2): "
            "write to another place"
        )
    write_files(writers)
    count = len(made.network.layers)
    part = f", the first {count} sections (--cutoff {count})" if made.is_backbone else ""
    print(f"Written: {', '.join(str(path) for path, _ in writers)}{part}, from {args.channels}")
    return 0


def _place(args: Arguments) -> Place:
    """Where it goes; sets args.name."""
    from yolo.datasets.formats.layout import Place

    top = Path(args.destination)
    if top.name in ("", ".."):
        top = top.resolve()
    if args.form == "sample":
        args.name = "digits"
        return Place(top / args.name, top, args.absolute)
    args.name = args.name or top.name or args.form
    return Place(top, top, args.absolute)


def _progress(pictures: Iterable[Any], total: int) -> Iterable[Any]:
    from tqdm import tqdm

    silent = not sys.stderr.isatty()
    return tqdm(pictures, total=total, unit="image", delay=2, leave=False, disable=silent)


def _rows(summary: Summary) -> list[tuple[str, int]]:
    rows = [(f"{split} images", count) for split, count in summary.images.items()]
    if summary.boxes is not None:
        rows += [("boxes", summary.boxes), ("of them clipped", summary.clipped)]
        rows += [("dropped: no area", summary.dropped)]
    rows += [(f"left out: {note}", count) for note, count in summary.notes.items() if count]
    return [*rows, ("skipped images", len(summary.skipped))]


def _table(summary: Summary) -> str:
    from terminaltables import AsciiTable

    rows = [[text, f"{count:,}"] for text, count in _rows(summary)]
    table = AsciiTable(rows)
    table.inner_heading_row_border = False
    table.justify_columns = {1: "right"}
    lines = [f"skipped {each.name}: {each.reason}" for each in summary.skipped[:SHOWN]]
    more = len(summary.skipped) - SHOWN
    lines += [f"… and {more:,} more"] if more > 0 else []
    return "\n".join([table.table, *lines, f"Written: {summary.data}"])


def _to_json(summary: Summary) -> dict[str, Any]:
    return {**asdict(summary), "data": str(summary.data)}


def _fit_anchors(args: Arguments) -> int:
    from yolo.datasets.formats.anchors import box_sizes, fit_anchors

    anchors = fit_anchors(box_sizes(args.data, args.size, _progress), args.num)
    print("anchors=" + ",".join(f"{value:.0f}" for pair in anchors.sizes for value in pair))
    print(f"{anchors.boxes:,} boxes, mean IoU with the best anchor {anchors.mean_iou:.4f}")
    return 0


if __name__ == "__main__":
    run(main)
