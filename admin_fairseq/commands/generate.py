"""The subcommand ``admin-fairseq generate``: continue standard input with a language model."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Iterable

from admin_fairseq.commands.command import Command, finite
from admin_fairseq.commands.lines import (
    add_device,
    add_model,
    reported,
    standard_input,
    write_utf8,
)
from admin_fairseq.serving.generate import GenerationOptions, generate, stream


def _add_options(parser: ArgumentParser) -> None:
    add = add_model(parser, GenerationOptions)
    add("beam", "beam width, or with --sampling how many samples the likeliest is chosen from")
    add("lenpen", "length penalty: <1 favours shorter, >1 longer lines", type=finite)
    add(
        "max_len_b", "longest line, in pieces and including the prompt, which each line begins with"
    )
    add("min_len", "shortest line, in pieces and including the prompt")
    parser.add_argument("--sampling", action="store_true", help="draw pieces at random")
    add("sampling_topk", "draw from the K likeliest pieces (default: all)", metavar="K")
    add(
        "sampling_topp",
        "draw from the fewest pieces whose probabilities add up to P (default: all)",
        metavar="P",
    )
    add("temperature", "<1 favours the likeliest pieces, >1 the others")
    add("seed", "draw the same samples each time, with one worker (default: others each time)")
    add("batch_size", "lines in a batch")
    add_device(add, "generate")


def _run(args: Namespace) -> Iterable[str]:
    write_utf8()
    options = GenerationOptions(**vars(args))
    if sys.stdout.isatty() and options.beam == 1:
        return stream(standard_input(), options)
    lines = reported(generate(standard_input(), options), "Continued", "lines")
    return (f"{line}\n" for line in lines)


COMMAND = Command(_add_options, _run, verbatim=True, end="")
