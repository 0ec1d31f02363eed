"""The command ``admin-fairseq SUBCOMMAND``: one row of a table each, and all that is printed."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any, Callable, Iterable, NamedTuple, NoReturn, Optional, Sequence

from admin_fairseq import benchmark
from admin_fairseq.errors import AdminError
from admin_fairseq.files import write_json
from admin_fairseq.schemes import SCHEMES


class Parser(ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        raise AdminError(f"{message} (see {self.prog} --help)")


class Command(NamedTuple):
    """A subcommand; ``run`` gives the lines to print."""

    help: str
    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Iterable[str]]


def _benchmark_options(parser: ArgumentParser) -> None:
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


def _benchmark(args: Namespace) -> Iterable[str]:
    asked = vars(args)
    path = asked.pop("json")
    result = benchmark.benchmark(benchmark.Options(**asked))
    yield from benchmark.report(result)
    if path:
        write_json(result, path)


COMMANDS = {
    "benchmark": Command(
        "training speed and memory beside fairseq's own transformer", _benchmark_options, _benchmark
    ),
}
"""Subcommand → what it does."""


def _parser() -> ArgumentParser:
    parser = Parser(prog="admin-fairseq", description="Tools of the fairseq plugin admin_fairseq.")
    subparsers = parser.add_subparsers(dest="command", metavar="SUBCOMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=command.help, description=command.help, allow_abbrev=False
        )
        command.add_options(subparser)
    return parser


def main(argv: Optional[Sequence[str]] = None) -> None:
    """Run the subcommand that ``argv`` (default: the command line) names."""
    args = _parser().parse_args(argv)
    command = COMMANDS[args.command]
    del args.command
    for line in command.run(args):
        print(line)


if __name__ == "__main__":
    main()
