"""Train, sparsify or fine-tune a Darknet model: cfg and data in, cfg and weights out."""

from __future__ import annotations

from common.command import run
from common.train_options import check, parser, resumed

from yolo.errors import DarknetError


def main() -> int:
    train_parser = parser()
    args = train_parser.parse_args()
    from yolo.models.checkpoint import is_checkpoint, load_checkpoint

    brings_cfg = args.weights is not None and is_checkpoint(args.weights)
    if not args.resume and not (args.data and (args.cfg or brings_cfg)):
        raise DarknetError("--cfg and --data are needed (or --resume); see --help")
    checkpoint = None
    if args.resume:
        checkpoint = load_checkpoint(args.resume)
        args = resumed(train_parser, args, checkpoint)
    check(args)
    from common.training import prepare, train

    from yolo.models.device import choose_device
    from yolo.training.ranks import Ranks

    ranks = Ranks.of_environment()
    device = choose_device(args.device, ranks.local)
    with ranks.joined(device):
        return train(prepare(args, checkpoint, ranks, device), args)


if __name__ == "__main__":
    run(main)
