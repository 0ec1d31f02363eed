"""``admin-fairseq benchmark``."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Iterable

from admin_fairseq import benchmark
from admin_fairseq.commands.command import Command
from admin_fairseq.files import write_json
from admin_fairseq.schemes import SCHEMES


def _add_options(parser: ArgumentParser) -> None:
    def add(name: str, help: str, **how: Any) -> None:
        default = getattr(benchmark.Options, name, None)
        option = "--" + name.replace("_", "-")
        if default:
            help += " (default: %(default)s)"
        parser.add_argument(option, default=default, help=help, **how)

    add("arch", "any of our architectures")
    add("init_type", "scheme, if not the architecture's own", choices=list(SCHEMES))
    add("encoder_layers", "encoder depth, if not the architecture's own", type=int)
    add("decoder_layers", "decoder depth, if not the architecture's own", type=int)
    add("data", "take batches of this data instead of made-up ones", metavar="DATA_BIN")
    add("vocabulary", "size of the vocabulary of made-up batches", type=int)
    add("max_tokens", "tokens in a batch", type=int)
    add("updates", "timed updates in a block", type=int)
    add("blocks", "blocks of each model", type=int)
    add("warmup_updates", "updates that do not count, at the beginning of a block", type=int)
    add("optimizer", "optimiser", choices=("adam", "radam"))
    add("fp16", "half precision, on a GPU", action="store_true")
    add("bf16", "bfloat16, on a GPU", action="store_true")
    add("cpu", "the CPU even where there is a GPU", action="store_true")
    add("seed", "random seed", type=int)
    add("json", "write the result here too", metavar="FILE")


def _run(args: Namespace) -> Iterable[str]:
    asked = vars(args)
    path = asked.pop("json")
    result = benchmark.benchmark(benchmark.Options(**asked))
    yield from benchmark.report(result)
    if path:
        write_json(result, path)


COMMAND = Command("training speed and memory beside fairseq's own transformer", _add_options, _run)
