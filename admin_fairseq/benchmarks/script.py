"""A table as a command: its options, its files, the lines that it prints."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Iterator, NamedTuple, Optional, Sequence

import torch

from admin_fairseq.analysis import output
from admin_fairseq.benchmarks.origin import origin
from admin_fairseq.benchmarks.sides import Conditions
from admin_fairseq.bounds import counting
from admin_fairseq.cli import perform
from admin_fairseq.commands.command import add_force, positive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

Result = dict[str, Any]
"""What was measured, in plain types, as its JSON file has it."""

Tell = Callable[[str], None]
"""Is given a line whenever a measurement has come further."""

OUTPUT = "runs/benchmarks"


class Table(NamedTuple):
    """``measure`` finds the numbers; the views only read them. Its command has the same name."""

    name: str
    measure: Callable[[Any, Tell], Result]
    draw: Callable[[Result], Figure]
    report: Callable[[Result], list[str]]


def parser(description: str) -> ArgumentParser:
    """A parser with the options that every table has."""
    made = ArgumentParser(
        description=description,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="Words after -- are options of fairseq-train for both sides: -- --dropout 0.3",
    )
    made.add_argument("--output", metavar="FOLDER", default=OUTPUT, help="(%(default)s)")
    add_force(made)
    made.add_argument("--threads", type=positive, help="of torch, if not as many as it takes")
    return made


def add_conditions(made: ArgumentParser, layers: bool = True, **defaults: Any) -> None:
    """The options of ``Conditions``; ``defaults`` where the table has its own.

    Without ``layers``, those of the two depths are left to the table.
    """
    add, start = made.add_argument, Conditions()

    def default(name: str) -> Any:
        return defaults.get(name, getattr(start, name))

    add("--arch", default=default("arch"), help="our architecture (%(default)s)")
    for stack in ("encoder", "decoder") if layers else ():
        add(
            f"--{stack}-layers",
            type=positive,
            default=default(f"{stack}_layers"),
            help=f"{stack} depth, if not the architecture's own (%(default)s)",
        )
    add(
        "--data",
        metavar="DATA_BIN",
        help="take batches of this data instead of made-up ones, which are all alike and unpadded",
    )
    add(
        "--vocabulary",
        type=positive,
        default=default("vocabulary"),
        help="types in made-up batches (%(default)s)",
    )
    add(
        "--max-tokens",
        type=positive,
        default=default("max_tokens"),
        help="tokens in a batch (%(default)s)",
    )
    add("--seed", type=int, default=default("seed"), help="(%(default)s)")
    add("--cpu", action="store_true", help="the CPU even where there is a GPU")
    add("words", metavar="-- OPTION", nargs="*", help="options of fairseq-train, for both sides")


def conditions(args: Namespace) -> Conditions:
    """What the options of ``add_conditions`` mean."""
    names = ("arch", "encoder_layers", "decoder_layers", "data", "vocabulary", "max_tokens")
    asked = {name: getattr(args, name, None) for name in (*names, "seed", "cpu")}
    return Conditions(**asked, words=tuple(args.words))


def add_ours(made: ArgumentParser, default: Sequence[str] = ()) -> None:
    made.add_argument(
        "--ours",
        metavar="OPTIONS",
        type=words,
        default=tuple(default),
        help='options that only our side gets: --ours="--reference-kernels" '
        f'(default: "{shlex.join(default)}")',
    )


def add_stock(made: ArgumentParser) -> None:
    made.add_argument(
        "--stock", metavar="OPTIONS", type=words, default=(), help="options that only stock gets"
    )


def words(text: str) -> tuple[str, ...]:
    """The type of an option that holds options: ``--ours "--criterion foo"``."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: {error}") from None


def add_blocks(made: ArgumentParser, default: Any, warmup: str) -> None:
    """How much is timed; ``default`` has the table's own numbers, ``warmup`` says what is not."""
    add = made.add_argument
    add("--updates", type=positive, default=default.updates, help="in a block (%(default)s)")
    add("--blocks", type=positive, default=default.blocks, help="of each side (%(default)s)")
    add(
        "--warmup-updates",
        type=counting(0),
        default=default.warmup_updates,
        help=f"{warmup} (%(default)s)",
    )


def run(
    table: Table, args: Namespace, options: Any, argv: Optional[Sequence[str]] = None
) -> Result:
    """Measure, write the files, print the lines.

    ``argv``: the words that ``args`` were read from. Raises AdminError where something is wrong;
    before anything is measured, if that can be told.
    """
    given = sys.argv[1:] if argv is None else argv
    result = {
        "table": table.name,
        "command": shlex.join(["python", f"benchmarks/{table.name}.py", *given]),
    }
    perform(partial(_measure_and_write, table, args, options, result))
    return result


def _measure_and_write(
    table: Table, args: Namespace, options: Any, result: Result
) -> Iterator[str]:
    """Fill ``result``; gives the lines to print."""
    from admin_fairseq import drawing  # matplotlib, which only pictures need

    names = [f"{table.name}.{ending}" for ending in ("json", *drawing.ENDINGS)]
    output.check_folder(args.output, names, args.force)
    if args.threads:
        torch.set_num_threads(args.threads)
    result.update(origin(torch.cuda.is_available() and not args.cpu))
    result.update(table.measure(options, logger.info))
    # the numbers first: whatever becomes of the picture, they took long
    content = (json.dumps(result, indent=1, allow_nan=False) + "\n").encode()
    output.write({f"{table.name}.json": content}, args.output, args.force)
    pictures = drawing.rendered(table.draw(result))
    files = {f"{table.name}.{ending}": picture for ending, picture in pictures.items()}
    output.write(files, args.output, args.force)
    yield from table.report(result)
    yield f"written to {args.output}: {', '.join(names)}"
