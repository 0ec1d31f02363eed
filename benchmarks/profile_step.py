"""Where the milliseconds of a training step go: fairseq's own `transformer` and ours.

torch's profiler looks at some updates of both, in turns, and operators are added up in families:
matrix products, attention, loss, dropout, layer norm, copies, optimiser and so on.
"""

from __future__ import annotations

from typing import Optional, Sequence

from admin_fairseq.benchmarks import profile_step, script
from admin_fairseq.benchmarks.script import Result
from admin_fairseq.commands.command import positive


def main(argv: Optional[Sequence[str]] = None) -> Result:
    parser, default = script.parser(__doc__), profile_step.Options()
    add = parser.add_argument
    script.add_conditions(parser)
    script.add_ours(parser, default.our_words)
    script.add_stock(parser)
    add("--updates", type=positive, default=default.updates, help="in a block (%(default)s)")
    add("--blocks", type=positive, default=default.blocks, help="of each side (%(default)s)")
    add(
        "--warmup-updates",
        type=positive,
        default=default.warmup_updates,
        help="of each side, before the blocks (%(default)s)",
    )
    args = parser.parse_args(argv)
    options = profile_step.Options(
        conditions=script.conditions(args),
        our_words=args.ours,
        stock_words=args.stock,
        updates=args.updates,
        blocks=args.blocks,
        warmup_updates=args.warmup_updates,
    )
    return script.run(profile_step.TABLE, args, options, argv)


if __name__ == "__main__":
    main()
