"""Beam search as `fairseq-generate` does it: fairseq's own `transformer` and ours, in turns.

Both have the same weights: those of --path, a checkpoint of ours that folds into stock's form, or
untrained ones, with which every hypothesis has --length tokens. Says how many best hypotheses
differ. Words after -- are options of fairseq-train that decide on an untrained model.
"""

from __future__ import annotations

from typing import Optional, Sequence

from admin_fairseq.benchmarks import generation, script
from admin_fairseq.benchmarks.script import Result
from admin_fairseq.commands.command import positive


def main(argv: Optional[Sequence[str]] = None) -> Result:
    parser, default = script.parser(__doc__), generation.Options()
    add = parser.add_argument
    script.add_conditions(parser)
    script.add_ours(parser)
    add("--path", metavar="CHECKPOINT", help="of ours; its dictionaries are in --data")
    add("--subset", default=default.subset, help="split to translate (%(default)s)")
    add("--beam", type=positive, default=default.beam, help="(%(default)s)")
    add(
        "--length",
        type=positive,
        default=default.length,
        help="tokens of an untrained model's hypotheses (%(default)s)",
    )
    add("--batches", type=positive, help="translate only so many")
    add("--blocks", type=positive, default=default.blocks, help="of each side (%(default)s)")
    add("--fp16", action="store_true", help="half precision, on a GPU")
    add(
        "--generate",
        metavar="OPTIONS",
        type=script.words,
        default=(),
        help='options of fairseq-generate: --generate="--lenpen 0.6"',
    )
    args = parser.parse_args(argv)
    options = generation.Options(
        conditions=script.conditions(args),
        path=args.path,
        subset=args.subset,
        beam=args.beam,
        length=args.length,
        batches=args.batches,
        blocks=args.blocks,
        our_words=args.ours,
        fp16=args.fp16,
        words=args.generate,
    )
    return script.run(generation.TABLE, args, options, argv)


if __name__ == "__main__":
    main()
