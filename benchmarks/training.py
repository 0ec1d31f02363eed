"""Words per second of training: fairseq's own `transformer` and ours, in turns.

Every configuration of ours is measured next to stock, block by block, in one process; the ratio is
that of neighbouring blocks. With --loss-updates, both also train from the same weights on the same
batches with a real learning rate, and the losses at the end are compared.

Without --config the configurations are steps from the reference kernels to everything together.
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from typing import Optional, Sequence

from admin_fairseq.benchmarks import script, training
from admin_fairseq.benchmarks.script import Result
from admin_fairseq.bounds import counting
from admin_fairseq.commands.command import finite


def configuration(text: str) -> tuple[str, tuple[str, ...]]:
    """``NAME`` of one that is known, or ``NAME: OPTIONS``."""
    name, colon, words = text.partition(":")
    if not colon and name in training.CONFIGURATIONS:
        return name, training.CONFIGURATIONS[name]
    if not colon or not name.strip():
        known = ", ".join(training.CONFIGURATIONS)
        raise ArgumentTypeError(f"{text!r} is neither 'NAME: OPTIONS' nor one of {known}")
    return name.strip(), script.words(words)


def main(argv: Optional[Sequence[str]] = None) -> Result:
    args = _args(argv)
    options = training.Options(
        conditions=script.conditions(args),
        configurations=dict(args.config) if args.config else dict(training.CONFIGURATIONS),
        stock_words=args.stock,
        updates=args.updates,
        blocks=args.blocks,
        warmup_updates=args.warmup_updates,
        loss_updates=args.loss_updates,
        loss_of=args.loss_of,
        loss_lr=args.loss_lr,
    )
    return script.run(training.TABLE, args, options, argv)


def _args(argv: Optional[Sequence[str]]) -> Namespace:
    parser, default = script.parser(__doc__), training.Options()
    add = parser.add_argument
    script.add_conditions(parser)
    script.add_stock(parser)
    add(
        "--config",
        action="append",
        type=configuration,
        metavar="'NAME: OPTIONS'",
        help="a configuration of ours: options that stock does not get; the name alone of one that "
        f"is known: {', '.join(training.CONFIGURATIONS)} (may be repeated; default: all of these)",
    )
    script.add_blocks(parser, default, "of each side, before the blocks")
    add(
        "--loss-updates",
        type=counting(0),
        default=default.loss_updates,
        help="compare losses after so many updates; 0: do not (%(default)s)",
    )
    add(
        "--loss-of",
        action="append",
        metavar="NAME",
        help="compare the loss of this configuration (may be repeated; default: of all)",
    )
    add("--loss-lr", type=finite, default=default.loss_lr, help="its peak (%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
