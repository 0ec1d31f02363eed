"""Training on a CUDA device: fairseq's own `transformer` and ours, from IWSLT size to 100L-100L.

Speed, peak memory and the share of what the device's matrix units could do at most, in half
precision: fp16 for both, bf16 with fairseq's --bf16 for stock and --autocast bfloat16 for ours. A
row whose model does not fit says so. Ends with one line where there is no CUDA device.
"""

from __future__ import annotations

from typing import Optional, Sequence

from admin_fairseq.benchmarks import gpu, script
from admin_fairseq.benchmarks.script import Result
from admin_fairseq.bounds import Bounds
from admin_fairseq.commands.command import positive


def main(argv: Optional[Sequence[str]] = None) -> Result:
    parser, default = script.parser(__doc__), gpu.Options()
    add = parser.add_argument
    add("--size", action="append", choices=list(gpu.SIZES), help="a row (repeated; default: all)")
    add(
        "--precision",
        action="append",
        choices=list(gpu.PRECISIONS),
        help=f"(may be repeated; default: {', '.join(default.precisions)})",
    )
    script.add_ours(parser, default.our_words)
    script.add_stock(parser)
    add("--data", metavar="DATA_BIN", help="take batches of this data instead of made-up ones")
    add("--vocabulary", type=positive, help="of made-up batches, if not the row's own")
    add("--layers", type=positive, help="of both stacks, if not the row's own")
    add("--max-tokens", type=positive, help="in a batch, if not the row's own")
    script.add_blocks(parser, default, "that do not count, at the beginning of a block")
    add(
        "--peak-tflops",
        type=Bounds(1e-12),
        help="10^12 dense matrix operations a second of the device, if not the table's",
    )
    add("--seed", type=int, default=default.seed, help="(%(default)s)")
    add("--cpu", action="store_true", help="try the script on a CPU, with --precision fp32")
    add("words", metavar="-- OPTION", nargs="*", help="options of fairseq-train, for both sides")
    args = parser.parse_args(argv)
    options = gpu.Options(
        sizes=args.size or default.sizes,
        precisions=args.precision or default.precisions,
        our_words=args.ours,
        stock_words=args.stock,
        data=args.data,
        vocabulary=args.vocabulary,
        layers=args.layers,
        max_tokens=args.max_tokens,
        words=args.words,
        updates=args.updates,
        blocks=args.blocks,
        warmup_updates=args.warmup_updates,
        peak_tflops=args.peak_tflops,
        seed=args.seed,
        cpu=args.cpu,
    )
    return script.run(gpu.TABLE, args, options, argv)


if __name__ == "__main__":
    main()
