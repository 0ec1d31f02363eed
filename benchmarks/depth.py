"""Time of a training step and peak memory against depth: fairseq's own `transformer` and ours.

Writes them with the slopes of both on logarithmic axes, over all depths and from each to the next
(what does not depend on depth flattens the former). Depths are 6, 12 (both stacks) or 12-6, 24-6
(encoder and decoder); --decoder-layers says it for all.
"""

from __future__ import annotations

from typing import Optional, Sequence

from admin_fairseq.benchmarks import depth, script
from admin_fairseq.benchmarks.script import Result
from admin_fairseq.commands.analyze import depths
from admin_fairseq.commands.command import positive


def main(argv: Optional[Sequence[str]] = None) -> Result:
    parser, default = script.parser(__doc__), depth.Options()
    add = parser.add_argument
    script.add_conditions(parser, layers=False, **depth.SMALL)
    script.add_ours(parser, default.our_words)
    script.add_stock(parser)
    layers = ",".join(map(str, default.depths))
    add("--depths", type=depths, default=default.depths, help=f"({layers})")
    add("--decoder-layers", type=positive, help="at every depth, if not as many as the encoder's")
    script.add_blocks(parser, default, "of each side, before the blocks")
    add("--no-memory", action="store_true", help="measure times alone, which is faster")
    args = parser.parse_args(argv)
    asked = args.depths
    if args.decoder_layers:
        asked = [one._replace(decoder=args.decoder_layers) for one in asked]
    options = depth.Options(
        conditions=script.conditions(args),
        depths=asked,
        our_words=args.ours,
        stock_words=args.stock,
        updates=args.updates,
        blocks=args.blocks,
        warmup_updates=args.warmup_updates,
        memory=not args.no_memory,
    )
    return script.run(depth.TABLE, args, options, argv)


if __name__ == "__main__":
    main()
