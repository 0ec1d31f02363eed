"""Peak memory of a training step: fairseq's own `transformer` and ours.

Both with and without --checkpoint-activations, each measurement in a process of its own: on a GPU
the bytes that torch allocated, on Linux resident memory, beyond what the process held before it
built the model. Without options it is 60 and 12 layers of width 256 (4 heads, FFN 1024), a
vocabulary of 32,768 and 4,096 tokens. That takes some minutes, and several GiB.
"""

from __future__ import annotations

from typing import Optional, Sequence

from admin_fairseq.benchmarks import memory, script
from admin_fairseq.benchmarks.script import Result
from admin_fairseq.commands.command import positive


def main(argv: Optional[Sequence[str]] = None) -> Result:
    parser, default = script.parser(__doc__), memory.Options()
    add = parser.add_argument
    # the width is among the words, before the user's, which win
    script.add_conditions(parser, **memory.DEEP)
    script.add_ours(parser, default.our_words)
    script.add_stock(parser)
    add("--updates", type=positive, default=default.updates, help="of each model (%(default)s)")
    add("--repeats", type=positive, default=default.repeats, help="processes (%(default)s)")
    args = parser.parse_args(argv)
    if args.arch == default.conditions.arch:
        args.words = [*memory.WIDTH, *args.words]
    options = memory.Options(
        script.conditions(args), args.ours, args.stock, args.updates, args.repeats
    )
    return script.run(memory.TABLE, args, options, argv)


if __name__ == "__main__":
    main()
