"""``admin-fairseq benchmark``."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from contextlib import nullcontext
from typing import Any, Iterable

from admin_fairseq import benchmark
from admin_fairseq.commands.command import Command
from admin_fairseq.config import INIT_TYPES
from admin_fairseq.files import replacing


def _add_options(parser: ArgumentParser) -> None:
    def add(name: str, help: str, **how: Any) -> None:
        default = getattr(benchmark.Options, name, None)
        option = "--" + name.replace("_", "-")
        if default:
            help += " (default: %(default)s)"
        if name in benchmark.BOUNDS:
            how["type"] = benchmark.BOUNDS[name]
        parser.add_argument(option, default=default, help=help, **how)

    add("arch", "any of our architectures")
    add("init_type", "scheme, if not the architecture's own", choices=INIT_TYPES)
    add("encoder_layers", "encoder depth, if not the architecture's own")
    add("decoder_layers", "decoder depth, if not the architecture's own")
    add("data", "take batches of this data instead of made-up ones", metavar="DATA_BIN")
    add("vocabulary", "size of the vocabulary of made-up batches")
    add("max_tokens", "tokens in a batch")
    add("updates", "timed updates in a block")
    add("blocks", "blocks of each model")
    add("warmup_updates", "updates that do not count, at the beginning of a block")
    add("optimizer", "optimiser", choices=("adam", "radam"))
    add("fp16", "half precision, on a GPU", action="store_true")
    add("bf16", "bfloat16, on a GPU", action="store_true")
    add("cpu", "the CPU even where there is a GPU", action="store_true")
    add("seed", "random seed")
    add("json", "write the result here too", metavar="FILE")


def _run(args: Namespace) -> Iterable[str]:
    asked = vars(args)
    path = asked.pop("json")
    with replacing(path) if path else nullcontext() as file:  # refused before it takes minutes
        result = benchmark.benchmark(benchmark.Options(**asked))
        if file is not None:
            file.write((json.dumps(result, indent=1, allow_nan=False) + "\n").encode())
    return benchmark.report(result)


COMMAND = Command(_add_options, _run)
