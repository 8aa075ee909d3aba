"""List the sections of a Darknet network: shapes, parameters, MACs, and what can be pruned."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from common.command import Parser, check_outputs, run


def arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--cfg", required=True, help="the network")
    parser.add_argument("--weights", help="check that these weights fit it")
    parser.add_argument(
        "--cutoff", type=int, metavar="N", help="the weights file holds only the first N sections"
    )
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON, too")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.json:
        check_outputs([Path(args.json)], [args.cfg, args.weights])
    from pruning.run.info import describe
    from yolo.files import write_file

    info = describe(args.cfg, args.weights, args.cutoff)
    if args.json:
        write_file(Path(args.json), (json.dumps(info.to_json(), indent=2) + "\n").encode())
    print(info.table())
    return 0


if __name__ == "__main__":
    run(main)
